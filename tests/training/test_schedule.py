"""A schedule fits its run, and a resumed run is at its place on the schedule of its own length."""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as torch_schedules
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from uniphd.errors import ConfigError
from uniphd.training.optim import warmup_cosine
from uniphd.training.schedule import Schedule, run_length

STEPS = partial(torch_schedules.MultiStepLR, gamma=0.1)
MAKES: dict[str, tuple[Callable[..., LRScheduler], Callable[..., LRScheduler]]] = {
    "length": (partial(warmup_cosine, warmup_steps=2),) * 2,
    "warm-up": (partial(warmup_cosine, warmup_steps=2), partial(warmup_cosine, warmup_steps=5)),
    "milestones": (partial(STEPS, milestones=[2]), partial(STEPS, milestones=[2, 4])),
    "T_max": tuple(partial(torch_schedules.CosineAnnealingLR, T_max=n) for n in (6, 12)),
    "one cycle": tuple(
        partial(torch_schedules.OneCycleLR, max_lr=0.5, total_steps=n) for n in (6, 12)
    ),
    "step size": tuple(partial(torch_schedules.StepLR, step_size=n) for n in (3, 4)),
    "lambda": tuple(
        partial(torch_schedules.LambdaLR, lr_lambda=function)
        for function in (lambda step: 1 / (1 + step), lambda step: 1 / (1 + step) ** 2)
    ),
}  # fmt: skip


def sgd(groups: Any) -> Optimizer:
    return SGD(groups, lr=0.1, momentum=0.9)


def optimizer() -> Optimizer:
    rates = ({"lr": 0.1}, {"lr": 0.3})
    return sgd([{"params": [nn.Parameter(torch.ones(2))], **rate} for rate in rates])


def schedule(make: Callable[..., LRScheduler], length: float, interval: str = "step") -> Schedule:
    return Schedule(make, sgd, interval, length)


def rates(made: Optimizer, advances: LRScheduler, number: int) -> list[list[float]]:
    """Of so many steps, which train nothing."""
    found = []
    for _ in range(number):
        found.append([group["lr"] for group in made.param_groups])
        made.step()
        advances.step()
    return found


def stopped(make: Callable[..., LRScheduler], length: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The states of a run after 6 steps."""
    first = optimizer()
    advances = schedule(make, length).on(first)
    rates(first, advances, 6)
    return deepcopy(first.state_dict()), deepcopy(advances.state_dict())


@pytest.mark.parametrize("name", MAKES)
def test_a_resumed_run_goes_on_along_its_own_schedule(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Twice as long, or with other arguments; the rates are those of a run that began so."""
    before, now = MAKES[name]
    whole = optimizer()
    expected = rates(whole, schedule(now, 12).on(whole), 12)
    states = stopped(before, 6)
    resumed = optimizer()
    advances = schedule(now, 12).on(resumed)
    resumed.load_state_dict(states[0])
    advances.load_state_dict(states[1])
    schedule(now, 12).resume(resumed, advances)
    assert "after 6 steps the learning rate is" in caplog.text
    for found, right in zip(rates(resumed, advances, 6), expected[6:], strict=True):
        assert found == pytest.approx(right, abs=1e-12)


@pytest.mark.parametrize("name", MAKES)
def test_the_same_schedule_stays_as_it_was_stored(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    make = MAKES[name][1]
    states = stopped(make, 12)
    resumed = optimizer()
    advances = schedule(make, 12).on(resumed)
    resumed.load_state_dict(states[0])
    advances.load_state_dict(deepcopy(states[1]))
    schedule(make, 12).resume(resumed, advances)
    assert caplog.text == ""
    assert (resumed.state_dict()["param_groups"], str(advances.state_dict())) == (
        states[0]["param_groups"],
        str(states[1]),
    )


@pytest.mark.parametrize(
    ("make", "length", "says"),
    [
        (partial(STEPS, milestones=[18]), 5, "never changes; optim.scheduler.milestones=[18] goes"),
        (partial(STEPS, milestones=[3, 9]), 5, "run of 5 steps: optim.scheduler.milestones=[3, 9]"),
        (partial(STEPS, milestones=[18]), 1, "this run of 1 step: optim.scheduler.milestones=[18]"),
        (partial(STEPS, milestones=[10**6]), 10**6, "milestones=[1000000] goes beyond"),
        (partial(torch_schedules.StepLR, step_size=9), 9, "optim.scheduler.step_size=9 goes"),
        (partial(torch_schedules.LinearLR, total_iters=9), 5, "the rate still rises at its end"),
        (partial(warmup_cosine, warmup_steps=2, total_steps=9), 5, "total_steps=9 goes beyond"),
        (partial(warmup_cosine, warmup_steps=2, total_steps=5), 30, "total_steps=5 the rate rises"),
        (partial(torch_schedules.CosineAnnealingLR, T_max=4), 16, "T_max=4 the rate rises again"),
        (partial(torch_schedules.LambdaLR, lr_lambda=lambda step: step), 9, "still rises"),
    ],
)
def test_a_schedule_that_does_not_fit_is_warned_of(
    make: Callable[..., LRScheduler], length: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = optimizer()
    schedule(make, length).check(made)
    assert says in caplog.text
    assert "warmup_steps" not in caplog.text
    assert [group["lr"] for group in made.param_groups] == [0.1, 0.3]


@pytest.mark.parametrize(
    ("make", "length"),
    [
        (partial(STEPS, milestones=[18]), 20),
        (partial(warmup_cosine, warmup_steps=2), 9),
        (partial(warmup_cosine, warmup_steps=2, total_steps=9), 9),
        (partial(torch_schedules.LinearLR, total_iters=3), 9),
        (partial(torch_schedules.ExponentialLR, gamma=0.9), 9),
        (partial(torch_schedules.OneCycleLR, max_lr=0.5, total_steps=9), 9),
        (partial(STEPS, milestones=[18]), float("inf")),
    ],
)
def test_one_that_fits_is_not(
    make: Callable[..., LRScheduler], length: float, caplog: pytest.LogCaptureFixture
) -> None:
    schedule(make, length).check(optimizer())
    assert caplog.records == []


def test_a_schedule_that_ends_before_the_run_is_refused() -> None:
    make = partial(torch_schedules.OneCycleLR, max_lr=0.5, total_steps=6)
    with pytest.raises(ConfigError, match=r"optim\.scheduler ends before .* 9 steps does: .*is 6"):
        schedule(make, 9).check(optimizer())


def test_a_schedule_that_follows_a_metric_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optim\.scheduler=ReduceLROnPlateau waits for a metric"):
        schedule(partial(torch_schedules.ReduceLROnPlateau, patience=3), 9).on(optimizer())


class Learner(LightningModule):
    """Notes the length of its run at the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.lengths: list[float] = []

    def on_train_start(self) -> None:
        self.lengths = [run_length(self.trainer, interval) for interval in ("step", "epoch")]

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight * batch).sum()

    def configure_optimizers(self) -> Optimizer:
        return SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [
        ({"max_epochs": 3}, 15, 3),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 9, 3),
        ({"max_epochs": 3, "max_steps": 7}, 7, 2),
        ({"max_epochs": -1, "max_steps": 10}, 10, 2),
        ({"max_epochs": -1, "max_steps": 11}, 11, 3),
        ({"max_epochs": 3, "limit_train_batches": 2}, 6, 3),
    ],
)
def test_the_length_of_a_run(options: dict[str, Any], steps: int, epochs: int) -> None:
    module = Learner()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer.fit(module, DataLoader(torch.ones(5, 1)))  # type: ignore[arg-type]
    assert module.lengths == [steps, epochs]
    assert trainer.global_step == steps
