"""The average of the weights: its values, where it is used, and resuming with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import uniphd
from tests.composition import TINY, compose_eval, compose_train
from uniphd.cli.evaluate import evaluate
from uniphd.cli.train import train
from uniphd.config.compose import build_nodes
from uniphd.errors import ConfigError
from uniphd.training.callbacks.ema import ExponentialMovingAverage
from uniphd.training.fault_tolerance.last_checkpoint import LastCheckpoint

DECAY = 0.7


class Counting(LightningModule):
    """A weight that is 1 more after every step, a buffer of each kind, and what validation saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.frozen = nn.Parameter(torch.tensor(0.1), requires_grad=False)
        self.register_buffer("statistic", torch.zeros(2))
        self.register_buffer("index", torch.arange(10))
        self.seen: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.statistic += 1
        return -self.weight.sum()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.seen.append(float(self.weight[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=1.0)


def averages(steps: int) -> list[float]:
    """The average after every step: the first is the weight itself."""
    values = [1.0]
    for weight in range(2, steps + 1):
        decay = min(DECAY, weight / (weight + 9))  # which ramps up with the steps before
        values.append(decay * values[-1] + (1 - decay) * weight)
    return values


def fit(folder: Path, steps: int, **options: Any) -> Counting:
    """Train in epochs of three steps; validate after the second of each."""
    module, loader = Counting(), DataLoader(TensorDataset(torch.zeros(3)))
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, val_check_interval=2, limit_val_batches=1,
        num_sanity_val_steps=0, log_every_n_steps=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LastCheckpoint(folder), ExponentialMovingAverage(DECAY)],
    )  # fmt: skip
    trainer.fit(module, loader, loader, weights_only=True, **options)
    return module


def test_validation_checkpoint_and_module_have_the_average(tmp_path: Path) -> None:
    module = fit(tmp_path, 4)
    expected = averages(4)
    assert module.seen == pytest.approx([expected[1]])
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for state in (stored["state_dict"], module.state_dict()):
        torch.testing.assert_close(state["weight"], torch.full((3,), expected[3]).double())
        torch.testing.assert_close(state["statistic"], torch.full((2,), expected[3]))
        torch.testing.assert_close(state["frozen"], torch.tensor(0.1), rtol=0, atol=0)
        assert state["index"].tolist() == list(range(10))  # 0.7 x 3 + 0.3 x 3 is below 3
    # The last checkpoint is written at the end of training; what is trained stands there as it was.
    assert stored["current_model_state"]["weight"].tolist() == [4, 4, 4]


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_run_continues_both(tmp_path: Path) -> None:
    fit(tmp_path / "part", 3)
    fit(tmp_path / "rest", 6, ckpt_path=tmp_path / "part" / "last.ckpt")
    stored = torch.load(tmp_path / "rest" / "last.ckpt", weights_only=True)
    assert stored["current_model_state"]["weight"].tolist() == [6, 6, 6]
    assert stored["state_dict"]["weight"].tolist() == pytest.approx([averages(6)[5]] * 3)


def test_the_average_of_a_short_run_is_not_that_of_its_first_steps() -> None:
    callback = ExponentialMovingAverage(0.9997)
    average = torch.zeros(1, dtype=torch.float64)  # what the first step left
    for count in range(1, 1000):
        callback._average([average], [torch.ones(1, dtype=torch.float64)], torch.tensor(count))
    assert average.item() > 0.999  # of a weight that was 1 ever after


def test_the_decay_is_the_one_asked_for_in_a_long_run() -> None:
    callback, average = ExponentialMovingAverage(0.9997), torch.zeros(1, dtype=torch.float64)
    callback._average([average], [torch.ones(1, dtype=torch.float64)], torch.tensor(40_000))
    assert average.item() == pytest.approx(0.0003)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_must_be_a_share(decay: float) -> None:
    with pytest.raises(ConfigError, match=r"callbacks\.ema\.decay is"):
        ExponentialMovingAverage(decay)


SMALL = (
    *TINY,
    "callbacks=[default,ema]",
    "callbacks.ema.decay=0.5",
    "callbacks.progress_bar=null",
    "callbacks.contact_sheet=null",
    "callbacks.curves=null",
    "data.eval_transform.size=96",
    "data.eval_transform.max_size=96",
    "data.batch_size=2",
    "prompt=point",
    "optim.scheduler.warmup_steps=1",
    "trainer.max_steps=3",
    "trainer.log_every_n_steps=1",
    "trainer.val_check_interval=1",
    "trainer.enable_progress_bar=false",
)


def test_evaluation_uses_the_average(tmp_path: Path, refhuman_folder: Path) -> None:
    metrics = train(compose_train(tmp_path, *SMALL, f"data.root={refhuman_folder}"))
    last = tmp_path / "checkpoints" / "last.ckpt"
    stored = torch.load(last, weights_only=True)
    changed = 0
    for name, value in uniphd.load_model(last).state_dict().items():
        average = stored["state_dict"][f"model.{name}"]
        torch.testing.assert_close(value, average)
        changed += not torch.equal(average, stored["current_model_state"][f"model.{name}"])
    assert changed > 100
    quiet = ["callbacks=none", "trainer.enable_progress_bar=false", "prompt=point"]
    options = [f"ckpt={last}", f"data.root={refhuman_folder}", "data.num_workers=0"]
    results = evaluate(compose_eval(tmp_path / "eval", *options, *quiet))
    for name in ("mIoU", "pose_AP", "oks"):
        if name in results["point"]:
            assert results["point"][name] == pytest.approx(metrics[f"val/point/{name}"], abs=1e-6)


def test_callbacks_combine() -> None:
    choice = "callbacks=[default,ema,early_stopping]"
    config = compose_train(Path("unused"), choice, "callbacks.ema.decay=0.9", "data.root=unused")
    plain = compose_train(Path("unused"), "data.root=unused")
    assert config.callbacks.keys() - plain.callbacks.keys() == {"ema", "early_stopping"}
    built = build_nodes(config.callbacks)
    stopping = built[-1]
    assert (stopping.monitor, stopping.mode) == ("val/mean/pose_AP", "max")
    assert OmegaConf.select(config, "callbacks.ema.decay") == 0.9
    assert any(isinstance(callback, ExponentialMovingAverage) for callback in built)


def test_early_stopping_follows_the_metric_of_the_best_checkpoint() -> None:
    overrides = ("experiment=synthetic_cpu", "callbacks=[default,early_stopping]")
    config = compose_train(Path("unused"), *overrides, "callbacks.early_stopping.patience=2")
    assert config.monitor == "val/mean/referring_acc"
    for callback in (config.callbacks.best, config.callbacks.early_stopping):
        assert (callback.monitor, callback.mode) == (config.monitor, "max")
    assert config.callbacks.early_stopping.patience == 2


def test_early_stopping_needs_a_validation(tmp_path: Path, refhuman_folder: Path) -> None:
    overrides = ("callbacks=[default,early_stopping]", "data.val_file=null")
    with pytest.raises(ConfigError, match="Early stopping needs a validation"):
        train(compose_train(tmp_path, *TINY, *overrides, f"data.root={refhuman_folder}"))
