"""Accumulated gradients are those of one large batch, however many people each batch has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning import LightningModule
from torch import Tensor, nn

from tests.composition import TINY, compose_train
from uniphd.cli.train import train
from uniphd.training.accumulation import InstanceMean
from uniphd.training.module import RefHumanModule

# Four people in two scenes of one size: what a batch is padded to is not what is tested.
SMALL = (
    *TINY,
    "data=synthetic",
    "data.size=[96,96]",
    "data.people=[2,2]",
    "data.train_scenes=2",
    "data.val_scenes=1",
    "data.num_render_workers=1",
    "data.eval_transform.size=96",
    "data.eval_transform.max_size=96",
    "model.prompt_encoder.dropout=0",
    "callbacks=none",
    "logger=none",
    "optim.scheduler.warmup_steps=1",
    "optim.scheduler.total_steps=2",
    "trainer.max_steps=1",
    "trainer.limit_val_batches=0",
    "trainer.gradient_clip_val=null",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1",
)


def gradients(
    monkeypatch: pytest.MonkeyPatch, folder: Path, batch: int, batches: int, *more: str
) -> dict[str, Tensor]:
    """What the first optimizer step of a training on four people sees."""
    found: dict[str, Tensor] = {}

    def keep(self: RefHumanModule, optimizer: torch.optim.Optimizer) -> None:
        named = self.named_parameters()
        found.update({name: p.grad.clone() for name, p in named if p.grad is not None})

    monkeypatch.setattr(RefHumanModule, "on_before_optimizer_step", keep)
    sizes = [f"data.batch_size={batch}", f"trainer.accumulate_grad_batches={batches}"]
    train(compose_train(folder, *SMALL, *sizes, *more))
    return found


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Relative to the norm of all gradients."""
    assert a.keys() == b.keys()
    norm = torch.stack([value.norm() for value in b.values()]).norm()
    return float(max((a[name] - b[name]).norm() for name in b) / norm)


@pytest.mark.parametrize(
    ("batch", "batches"),
    [
        pytest.param(2, 2, id="equal"),
        pytest.param(3, 2, id="a smaller last batch"),
        pytest.param(2, 3, id="fewer batches in the epoch's last step"),
    ],
)
def test_accumulation_is_one_large_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batch: int, batches: int
) -> None:
    large = gradients(monkeypatch, tmp_path, 4, 1)
    several = gradients(monkeypatch, tmp_path, batch, batches)
    assert largest_difference(several, large) < 1e-4


def test_the_mean_over_batches_is_something_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What Lightning does by itself, which the test above would not let pass."""
    large = gradients(monkeypatch, tmp_path, 4, 1)
    monkeypatch.setattr(RefHumanModule, "backward", LightningModule.backward)
    several = gradients(monkeypatch, tmp_path, 3, 2)
    assert largest_difference(several, large) > 1e-2


def test_the_warmup_accumulates_alike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = ("model=uniphd_plus", "loss=plus")
    large = gradients(monkeypatch, tmp_path, 4, 1, *options)
    several = gradients(monkeypatch, tmp_path, 3, 2, *options)
    assert largest_difference(several, large) < 1e-4


def test_the_running_mean() -> None:
    parameter, mean = nn.Parameter(torch.zeros(())), InstanceMean()
    for _ in range(2):
        parameter.grad = None
        mean.restart()
        for sum_of_losses, count in ((6.0, 3), (5.0, 1), (8.0, 4)):
            weight = mean.weigh([parameter], torch.tensor(float(count)))
            (parameter * sum_of_losses / count * weight).backward()
        torch.testing.assert_close(parameter.grad, torch.tensor(19 / 8))
