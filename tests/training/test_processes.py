"""Training in several processes is training in one: the same gradients, decisions and losses."""

from __future__ import annotations

import csv
import os
import signal
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.optim import Optimizer

from tests.composition import TINY, compose_train
from tests.processes import run_processes
from tests.training.test_accumulation import largest_difference
from uniphd.cli import train as cli
from uniphd.cli.train import train
from uniphd.errors import TrainingError
from uniphd.losses import matched_masks
from uniphd.losses.masks import dice_loss
from uniphd.structures import Batch
from uniphd.training.module import RefHumanModule
from uniphd.training.processes import explain_lost_processes, share_losses

# Eight people in four scenes of one size: what a batch is padded to is not what is tested.
SMALL = (
    *TINY,
    "data=synthetic",
    "data.size=[96,96]",
    "data.people=[2,2]",
    "data.train_scenes=4",
    "data.val_scenes=1",
    "data.num_render_workers=1",
    "data.eval_transform.size=96",
    "data.eval_transform.max_size=96",
    "model.prompt_encoder.dropout=0",
    "model=uniphd_plus",
    "loss=plus",
    "loss.auxiliary.grounding.weight=0.5",
    "callbacks=none",
    "optim.scheduler.warmup_steps=1",
    "optim.scheduler.total_steps=20",
    "trainer.limit_val_batches=0",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1",
)
TWO = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")


def train_and_keep(folder: Path, *overrides: str) -> tuple[list[dict[str, Tensor]], list[str]]:
    """What every optimizer step sees, and the losses of metrics.csv."""
    kept: list[dict[str, Tensor]] = []
    check = RefHumanModule.on_before_optimizer_step

    def keep(self: RefHumanModule, optimizer: Optimizer) -> None:
        check(self, optimizer)
        kept.append(
            {
                name: parameter.grad.clone()
                for name, parameter in self.named_parameters()
                # Sampling starts on the borders of cells, where its derivative jumps.
                if parameter.grad is not None and "sampling_offsets" not in name
            }
        )

    def build_alone(device: str, required: bool) -> None:
        assert not distributed.is_initialized(), "the others would wait for the compiler"
        built.append(device)

    # The derivative of ReLU jumps, too, and rounding decides on which side a zero falls.
    functional.relu = functional.silu
    Tensor.relu = functional.silu
    built: list[str] = []
    cli.resolve_backend = build_alone  # type: ignore[assignment]
    RefHumanModule.on_before_optimizer_step = keep  # type: ignore[method-assign]
    train(compose_train(folder, *SMALL, *overrides))
    assert built == ["cpu"]
    return kept, losses(folder) if os.environ["RANK"] == "0" else []


def losses(folder: Path) -> list[str]:
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, 2])
def test_two_processes_see_the_gradients_and_losses_of_one(tmp_path: Path, batches: int) -> None:
    """In and after the warm-up, with one prompt a process, whose kinds differ."""
    options = (
        f"trainer.accumulate_grad_batches={batches}",
        "loss.warmup.steps=2",
        "trainer.max_steps=4",
        "optim.lr=0",
    )
    (alone,) = run_processes(train_and_keep, 1, tmp_path / "1", *options, "data.batch_size=2")
    together = run_processes(train_and_keep, 2, tmp_path / "2", *options, *TWO, "data.batch_size=1")
    expected, expected_losses = alone
    assert len(expected) == 4
    behind = [any(name.startswith("model.decoder") for name in step) for step in expected]
    assert behind == [False, False, True, True]  # the warm-up ends before the decoder
    for found, _ in together:
        for step, gradients in enumerate(found):
            assert largest_difference(gradients, expected[step]) < 2e-5, step
    found_losses = together[0][1]
    assert [float(x) for x in found_losses] == pytest.approx(
        [float(x) for x in expected_losses], rel=1e-5
    )
    first, second = (gradients for gradients, _ in together)
    for mine, theirs in zip(first, second, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def nan_loss(logits: Tensor, target: Tensor) -> Tensor:
    return dice_loss(logits, target) * torch.nan


def decoder_weight(module: RefHumanModule) -> Tensor:
    return next(module.model.decoder.parameters()).detach().clone()


def train_with_a_broken_loss(folder: Path, action: str) -> tuple[int, list[bool]]:
    """A NaN in the second process' third step: how many are skipped, which steps change weights."""
    weights: list[Tensor] = []
    step = RefHumanModule.training_step

    def broken(self: RefHumanModule, batch: Batch, batch_idx: int) -> Tensor:
        weights.append(decoder_weight(self))
        breaks = self.global_step == 2 and self.global_rank == 1
        matched_masks.dice_loss = nan_loss if breaks else dice_loss
        return step(self, batch, batch_idx)

    RefHumanModule.training_step = broken  # type: ignore[method-assign]
    kept: list[RefHumanModule] = []
    RefHumanModule.on_fit_end = lambda self: kept.append(self)  # type: ignore[method-assign]
    options = ("loss.warmup.steps=1", "trainer.max_steps=5", f"module.non_finite={action}")
    train(compose_train(folder, *SMALL, *TWO, *options, "data.batch_size=1"))
    weights.append(decoder_weight(kept[0]))
    changed = [not torch.equal(a, b) for a, b in pairwise(weights)]
    assert all(value.isfinite().all() for value in kept[0].parameters())
    return kept[0].finite.skipped, changed


@pytest.mark.slow
def test_both_processes_skip_the_step_that_one_cannot_take(tmp_path: Path) -> None:
    results = run_processes(train_with_a_broken_loss, 2, tmp_path, "skip")
    assert results == [(1, [False, True, False, True, True])] * 2
    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        assert [row["train/skipped_steps"] for row in csv.DictReader(file)][2] == "1.0"


@pytest.mark.slow
def test_both_processes_stop_with_the_losses_and_people(tmp_path: Path) -> None:
    first, second = run_processes(train_with_a_broken_loss, 2, tmp_path, "stop")
    assert isinstance(first, TrainingError)
    assert str(first) == str(second)
    assert str(first).startswith(
        "Step 2 is not finite: final/dice, final/dice_low, loss of image ids "
    )
    assert "in process 1 of 2. Look at these people" in str(first)


def train_until_killed(folder: Path) -> float:
    step = RefHumanModule.training_step

    def mortal(self: RefHumanModule, batch: Batch, batch_idx: int) -> Tensor:
        if self.global_step == 2 and self.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, batch_idx)

    RefHumanModule.training_step = mortal  # type: ignore[method-assign]
    options = ("loss.warmup.steps=1", "trainer.max_steps=5", "data.batch_size=1")
    train(compose_train(folder, *SMALL, *TWO, *options))
    return 0.0


@pytest.mark.slow
def test_a_killed_process_ends_the_others_with_a_sentence(tmp_path: Path) -> None:
    started = time.monotonic()
    survivor, killed = run_processes(train_until_killed, 2, tmp_path)
    assert isinstance(killed, ChildProcessError)
    assert "-9" in str(killed)
    assert isinstance(survivor, TrainingError)
    assert "Process 0 of 2 lost another process" in str(survivor)
    assert time.monotonic() - started < 250  # the process group's own time-out is 30 minutes


def share(counts: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Two or three people of loss 1 in the first process, more of loss 2, 3 ... in the others."""
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    own = torch.tensor(rank + 1.0)
    shared = share_losses({"loss": own}, {"odd": torch.tensor(rank)}, counts[rank])
    distributed.destroy_process_group()
    return (
        float(shared.people),
        float(shared.losses["loss"]),
        float(shared.counts["odd"]),
        float(own * shared.weight),
    )


@pytest.mark.slow
def test_losses_are_means_over_the_people_of_all_processes() -> None:
    results = run_processes(share, 3, (2, 5, 1))
    mean = (2 * 1 + 5 * 2 + 1 * 3) / 8
    for people, loss, odd, _ in results:
        assert (people, odd) == (8, 3)
        assert loss == pytest.approx(mean)
    # What DistributedDataParallel makes of the processes' own gradients.
    assert sum(weighted for *_, weighted in results) / 3 == pytest.approx(mean)


def test_one_process_shares_with_nobody() -> None:
    losses = {"loss": torch.tensor(1.25), "other": torch.tensor(2.0)}
    shared = share_losses(losses, {"odd": torch.tensor(3)}, people=4)
    assert (float(shared.people), float(shared.weight)) == (4, 1)
    assert shared.losses == losses
    assert shared.counts == {"odd": torch.tensor(3.0)}


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes") as caught, explain_lost_processes():
        raise RuntimeError("shapes do not fit")
    assert not isinstance(caught.value, TrainingError)


@pytest.mark.parametrize(
    ("said", "repeated"),
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Killed. ",
            r"\(pid 7\) is .*: Killed\. The",
        ),
        (
            "DataLoader worker (pid(s) 7, 8) exited unexpectedly",
            r"7, 8\) exited unexpectedly\. The",
        ),
    ],
)
def test_a_loading_process_that_died_is_a_sentence(said: str, repeated: str) -> None:
    with pytest.raises(TrainingError, match=repeated) as caught, explain_lost_processes():
        raise RuntimeError(said)
    assert "fewer data.num_workers" in str(caught.value)


def test_processes_that_do_not_meet_end_with_a_sentence() -> None:
    sentence = r"did not find each other \(.*\)\. Start all of them"
    with pytest.raises(TrainingError, match=sentence), explain_lost_processes():
        distributed.TCPStore("127.0.0.1", 9, timeout=timedelta(milliseconds=10))


# As torch 2.14 says it, in this order: killed, cut off.
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "[/gloo/transport/tcp/pair.cc:545] Read error [10.77.0.2]:10897: Connection reset by "
            "peer. This is typically caused by a remote worker hanging.",
            r"\(Read error \[10\.77\.0\.2\]:10897: Connection reset by peer\)",
        ),
        ("Application timeout caused pair closure", r"\(Application timeout caused pair closure\)"),
    ],
)
def test_a_lost_process_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, said: str, reason: str
) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 4)
    sentence = rf"Process 1 of 4 lost another .*{reason}\. See"
    with pytest.raises(TrainingError, match=sentence), explain_lost_processes():
        raise RuntimeError(said)
