"""Resuming from every checkpoint that a run ever writes continues it as if it had not stopped."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.utils.data import Dataset

from tests.equality import differences
from tests.processes import run_processes
from uniphd.data.dataset import SampleKey
from uniphd.data.resumable import ResumableLoader
from uniphd.data.samplers import EpochSampler, ImageGroupSampler
from uniphd.errors import ConfigError
from uniphd.training.callbacks.ema import ExponentialMovingAverage
from uniphd.training.fault_tolerance import exact_resume
from uniphd.training.fault_tolerance.checkpoint_io import DurableCheckpointIO
from uniphd.training.fault_tolerance.exact_resume import ExactResume
from uniphd.training.fault_tolerance.last_checkpoint import LastCheckpoint
from uniphd.training.lightning_internals import logged_step

pytestmark = pytest.mark.filterwarnings(
    "ignore:The dirpath has changed", "ignore:Checkpoint directory .* exists and is not empty"
)


class Draws(Dataset[Tensor]):
    """Says which epoch and item were asked for."""

    def __init__(self, items: int) -> None:
        self.items = items

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, draw: SampleKey) -> Tensor:  # type: ignore[override]
        return torch.tensor([float(draw.epoch), float(draw.instance)])


class Recorder(LightningModule):
    """Notes all that happens, with every number that a mistake in resuming would change."""

    def __init__(self, events: list[Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.1, 0.3, 3))
        self.events = events

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        noise = torch.rand(()) + random.random() + float(np.random.rand())
        loss = ((self.weight * batch.sum() - noise) ** 2).mean()
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        place = (self.trainer.current_epoch, batch_idx, self.global_step)
        self.events.append(("train", *place, batch.tolist(), rate, loss.item()))
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        value = float(self.weight.sum() * batch.sum())
        self.events.append(("val", self.global_step, batch.tolist(), value))
        self.log("val/score", value % 7, batch_size=1)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW([self.weight], lr=0.05)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule}}


class EventLogger(Logger):
    """Notes what is logged at which step."""

    def __init__(self, events: list[Any]) -> None:
        super().__init__()
        self.events = events

    name, version = "events", 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.events.append(("log", step, sorted(metrics.items())))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...


class KeepingIO(DurableCheckpointIO):
    """Keeps a copy of every checkpoint, and how much had happened when it was written."""

    def __init__(self, folder: Path, events: list[Any]) -> None:
        super().__init__()
        self.folder, self.events = folder, events
        self.copies: list[tuple[int, Path]] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, *args: Any, **kw: Any) -> None:
        super().save_checkpoint(checkpoint, path, *args, **kw)
        copy = self.folder / "copies" / f"{len(self.copies)}-{Path(path).name}"
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
        self.copies.append((len(self.events), copy))


def fit(
    folder: Path, resume: Path | None = None, workers: int = 0, batches: int = 4, **options: Any
) -> tuple[list[Any], list[tuple[int, Path]], dict[str, Any]]:
    """Train; returns what happened, the checkpoints in the order of writing, and the last one."""
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    events: list[Any] = []
    train, val = Draws(2 * batches), Draws(2)
    files = KeepingIO(folder, events)
    trainer = Trainer(
        accelerator="cpu", num_sanity_val_steps=0, log_every_n_steps=1, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, plugins=[files],
        logger=EventLogger(events),
        callbacks=[
            LastCheckpoint(folder, every_n_steps=options.pop("every_n_steps", 1)),
            ModelCheckpoint(
                folder, "best", "val/score", mode="max", save_on_train_epoch_end=False,
                enable_version_counter=False,
            ),
            ExponentialMovingAverage(0.7),
            ExactResume(),
        ],
        **options,
    )  # fmt: skip
    trainer.fit(
        Recorder(events),
        ResumableLoader(
            train, 2, sampler=EpochSampler(train, True), num_workers=workers,
            persistent_workers=workers > 0, generator=torch.Generator(),
        ),
        ResumableLoader(val, 1, sampler=EpochSampler(val, False), generator=torch.Generator()),
        ckpt_path=resume,
        weights_only=True,
    )  # fmt: skip
    newest = files.copies[-1][1] if files.copies else resume
    assert newest is not None
    return events, files.copies, torch.load(newest, weights_only=True)


SCHEDULES = {
    "steps, validation within epochs": {
        "max_steps": 11, "val_check_interval": 3, "check_val_every_n_epoch": None
    },
    "steps, validation at epochs' ends": {
        "max_steps": 8, "val_check_interval": 4, "check_val_every_n_epoch": None
    },
    "steps, no validation": {
        "max_steps": 8, "limit_val_batches": 0, "check_val_every_n_epoch": None
    },
    "epochs": {"max_epochs": 3},
    "epochs, no validation": {"max_epochs": 3, "limit_val_batches": 0},
    "epochs, validation twice in each": {"max_epochs": 2, "val_check_interval": 2},
    "epochs, validation every second": {
        "max_epochs": 4, "batches": 2, "check_val_every_n_epoch": 2
    },
    "a limited epoch": {"max_epochs": 3, "limit_train_batches": 3},
    "accumulation": {
        "max_steps": 8, "batches": 5, "accumulate_grad_batches": 2, "val_check_interval": 3,
        "check_val_every_n_epoch": None,
    },
    "rare saving": {"max_epochs": 2, "every_n_steps": 3},
}  # fmt: skip


@pytest.mark.parametrize(
    "schedule",
    [
        pytest.param(schedule, id=name, marks=() if name == "rare saving" else pytest.mark.slow)
        for name, schedule in SCHEDULES.items()
    ],
)
def test_every_checkpoint_continues_the_run(tmp_path: Path, schedule: dict[str, Any]) -> None:
    events, copies, last = fit(tmp_path, **schedule)
    assert len(copies) >= 3
    assert {event[0] for event in events} >= {"train", "log"}
    for happened, copy in copies:
        if "best" in copy.stem and "accumulate_grad_batches" in schedule:
            continue  # Lightning writes it between the batches of a step, too
        rest, _, resumed = fit(tmp_path / copy.stem, copy, **schedule)
        assert rest == events[happened:], copy.stem
        for part in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
            assert differences(resumed[part], last[part]) == []


def fit_in_a_process(folder: Path, resume: Path | None) -> tuple[list[Any], list[float]]:
    """What the steps of one of several processes were, and the weights that they ended with."""
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    events: list[Any] = []
    module, data, rank = Recorder(events), Draws(8), int(os.environ["RANK"])
    trainer = Trainer(
        accelerator="cpu", devices=int(os.environ["WORLD_SIZE"]), strategy="ddp", max_steps=6,
        limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False, logger=False,
        default_root_dir=folder, plugins=[DurableCheckpointIO()], use_distributed_sampler=False,
        callbacks=[LastCheckpoint(folder, every_n_steps=3), ExactResume()],
    )  # fmt: skip
    if rank == 0 and resume is None:  # a copy of the first checkpoint
        save = trainer.save_checkpoint

        def save_and_keep(path: Any, *args: Any, **options: Any) -> None:
            save(path, *args, **options)
            if not (folder / "first.ckpt").exists():
                shutil.copy(path, folder / "first.ckpt")

        trainer.save_checkpoint = save_and_keep  # type: ignore[method-assign]
    loader = ResumableLoader(
        data, 2, sampler=EpochSampler(data, True), generator=torch.Generator()
    )  # fmt: skip
    trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
    return events, module.weight.tolist()


@pytest.mark.slow
def test_every_process_has_random_numbers_of_its_own_and_goes_on_with_them(tmp_path: Path) -> None:
    (alone,) = run_processes(fit_in_a_process, 1, tmp_path / "1", None)
    whole = run_processes(fit_in_a_process, 2, tmp_path / "2", None)
    rest = run_processes(fit_in_a_process, 2, tmp_path / "3", tmp_path / "2" / "first.ckpt")
    further = run_processes(fit_in_a_process, 3, tmp_path / "4", tmp_path / "2" / "first.ckpt")
    first_losses = [events[0][-1] for events, _ in (alone, *whole)]
    assert first_losses[0] == first_losses[1]  # as without other processes
    assert first_losses[1] != first_losses[2]  # of the same data and weights
    for rank in range(2):
        events, weights = whole[rank]
        assert len(events) == 6
        assert rest[rank] == (events[3:], weights)
    assert whole[0][1] == whole[1][1] != alone[1]
    assert [events[0] for events, _ in further[:2]] == [events[3] for events, _ in whole]
    assert len({events[0][-1] for events, _ in further}) == 3
    assert len({tuple(weights) for _, weights in further}) == 1


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
def test_with_loading_processes(tmp_path: Path) -> None:
    schedule = SCHEDULES["steps, validation within epochs"]
    events, copies, _ = fit(tmp_path, **schedule)
    happened, copy = copies[-4]  # in the third epoch
    rest, _, _ = fit(tmp_path / "rest", copy, workers=2, **schedule)
    assert len({event[1] for event in rest if event[0] == "train"}) == 1
    assert rest == events[happened:]


@pytest.mark.parametrize(
    ("stop", "validation"),
    [
        pytest.param(4, {"limit_val_batches": 0}, id="an epoch, no validation"),
        pytest.param(8, {}, id="two epochs"),
        pytest.param(3, {}, id="within an epoch, validated", marks=pytest.mark.slow),
        pytest.param(5, {"limit_val_batches": 0}, id="within an epoch", marks=pytest.mark.slow),
    ],
)
def test_a_finished_run_can_be_made_longer(tmp_path: Path, stop: int, validation: Any) -> None:
    """At step 4 and 8 an epoch ends; a run that ended there used to leave most of an epoch out."""
    options = {"val_check_interval": 3, "check_val_every_n_epoch": None} | validation
    events, _, _ = fit(tmp_path / "whole", max_steps=10, **options)
    part, _, _ = fit(tmp_path / "part", max_steps=stop, **options)
    rest, _, _ = fit(tmp_path / "rest", tmp_path / "part" / "last.ckpt", max_steps=10, **options)
    assert part + rest == events


class AsksForSteps(Recorder):
    """Has a schedule over the whole run, for which Lightning makes the loader early."""

    def configure_optimizers(self) -> Any:
        assert self.trainer.estimated_stepping_batches
        return super().configure_optimizers()


def people(
    folder: Path, size: int, steps: int, resume: Path | None = None, kind: type[Recorder] = Recorder
) -> list[tuple[float, float]]:
    """Whom a training on 12 people takes up to a step: epoch and number."""
    events: list[Any] = []
    data = Draws(12)
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=9, limit_val_batches=0, logger=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        plugins=[DurableCheckpointIO()], callbacks=[LastCheckpoint(folder), ExactResume()],
    )  # fmt: skip
    loader = ResumableLoader(
        data, size, sampler=EpochSampler(data, True), generator=torch.Generator()
    )
    trainer.fit(kind(events), loader, ckpt_path=resume, weights_only=True)
    return [tuple(person) for event in events if event[0] == "train" for person in event[4]]


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
@pytest.mark.parametrize("kind", [Recorder, AsksForSteps])
@pytest.mark.parametrize(
    "parts",
    [[(2, 3), (2, 8)], [(2, 3), (4, 6)], [(2, 1), (4, 3), (1, 6), (3, 9)], [(4, 2), (2, 5)]],
)
def test_people_are_counted_whatever_the_size_of_the_batches(
    tmp_path: Path, parts: list[tuple[int, int]], kind: type[Recorder]
) -> None:
    """Nobody is left out or taken twice in the epoch in which the size of the batches changes."""
    whole = people(tmp_path / "whole", 1, 24)
    taken, resume = [], None
    for number, (size, steps) in enumerate(parts):
        taken += people(tmp_path / str(number), size, steps, resume, kind)
        resume = tmp_path / str(number) / "last.ckpt"
    assert taken == whole[: len(taken)]
    assert len(taken) >= 12


class LoggedSteps(Callback):
    """Notes at which step a callback before `ExactResume` would log."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self.steps.append((logged_step(trainer), trainer.global_step))


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_the_first_step_of_a_resumed_run_is_logged_as_itself(tmp_path: Path) -> None:
    """Of a checkpoint that was written in a validation, before Lightning counts the step."""
    people(tmp_path, 4, 3)  # an epoch
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    content["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] = 2
    torch.save(content, tmp_path / "last.ckpt")
    steps, data = LoggedSteps(), Draws(12)
    trainer = Trainer(
        accelerator="cpu", limit_val_batches=0, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, max_epochs=2,
        callbacks=[steps, LastCheckpoint(tmp_path / "rest"), ExactResume()],
    )  # fmt: skip
    loader = ResumableLoader(data, 4, sampler=EpochSampler(data, True), generator=torch.Generator())
    resume = tmp_path / "last.ckpt"
    trainer.fit(Recorder([]), loader, ckpt_path=resume, weights_only=True)
    assert steps.steps[0] == (3, 3)
    assert all(logged == step for logged, step in steps.steps)


def test_a_range_of_people_cannot_be_divided_among_more_processes() -> None:
    sampler = ImageGroupSampler.__new__(ImageGroupSampler)
    sampler.num_replicas, sampler.num_samples = 2, 6
    assert sampler.share(8, 2) == 4
    with pytest.raises(ConfigError, match=r"an epoch of 3 processes.*among 2"):
        sampler.share(6, 3)


def test_every_process_draws_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else dropout would leave out the same of every batch; the first process keeps the seed."""
    monkeypatch.setattr(exact_resume, "count_batches_anew", lambda trainer: None)
    drawn = []
    for rank in range(3):
        torch.manual_seed(7)
        ExactResume().on_train_start(SimpleNamespace(global_rank=rank), nn.Module())
        drawn.append((torch.rand(1).item(), random.random(), np.random.rand()))
    torch.manual_seed(7)
    assert torch.rand(1).item() == drawn[0][0]
    for numbers in zip(*drawn, strict=True):
        assert len(set(numbers)) == 3
