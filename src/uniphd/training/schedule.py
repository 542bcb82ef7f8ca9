"""Whether a learning rate schedule fits the length of its run, and where a resumed run is on it."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from uniphd.errors import ConfigError

_warn = rank_zero_only(logging.getLogger(__name__).warning)
# Arguments of schedules that are times: of an event, of the rate's end, and of any of these.
_EVENTS = ("milestones", "step_size")
_ENDS = ("total_steps", "T_max")
_TIMES = (*_EVENTS, *_ENDS, "total_iters", "warmup_steps")
_LONGEST = 100_000  # a longer schedule is not tried out


class Schedule:
    """Makes a run's schedule, on its optimizer or for a trial on one without parameters.

    Args:
        make: optimizer -> schedule. One that has an argument `run_steps` is given `length`.
        make_optimizer: parameter groups -> optimizer.
        interval: "epoch" or "step", when the schedule advances.
        length: how often it advances in the whole run, see `run_length`.
    """

    def __init__(
        self,
        make: Callable[..., LRScheduler],
        make_optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        interval: str,
        length: float,
    ) -> None:
        self._make = make
        self._make_optimizer = make_optimizer
        self._interval = interval
        self._length = length

    def on(self, optimizer: Optimizer) -> LRScheduler:
        """The schedule of an optimizer, at the run's start.

        Raises:
            ConfigError: it follows a metric.
        """
        arguments = {}
        if "run_steps" in inspect.signature(self._make).parameters:
            arguments["run_steps"] = self._length
        schedule = self._make(optimizer, **arguments)
        if isinstance(schedule, ReduceLROnPlateau):
            raise ConfigError(
                "optim.scheduler=ReduceLROnPlateau waits for a metric, which no schedule is told; "
                "give one that follows steps or epochs, such as optim=step."
            )
        return schedule

    def check(self, optimizer: Optimizer) -> None:
        """Warn where the schedule does not fit the run.

        Args:
            optimizer: of the run; it stays as it is.

        Raises:
            ConfigError: the schedule cannot go on until the run's end.
        """
        trial, schedule = self._trial(optimizer)
        rates = [_rates(trial)]
        for _ in range(int(self._length) - 1 if self._length <= _LONGEST else 0):
            self._advance(schedule)
            rates.append(_rates(trial))
        if problems := [*_outcome(rates), *self._arguments(rates)]:
            _warn(
                "The learning rate's schedule does not fit this run of %s: %s.",
                self._lasting(self._length),
                "; ".join(problems),
            )

    def resume(self, optimizer: Optimizer, schedule: LRScheduler) -> None:
        """Go on at the same place of this run's schedule, where the checkpoint has another one.

        Args:
            optimizer: with the checkpoint's state; its rates change.
            schedule: with the checkpoint's state, which changes.

        Raises:
            ConfigError: the schedule has ended before that place.
        """
        done = getattr(schedule, "last_epoch", 0)
        if not done:
            return
        trial, anew = self._trial(optimizer)
        for _ in range(done):
            self._advance(anew)
        if _agree(schedule.state_dict(), anew.state_dict()):
            return
        before = _rates(optimizer)[0]
        schedule.load_state_dict(deepcopy(anew.state_dict()))
        for group, other in zip(optimizer.param_groups, trial.param_groups, strict=True):
            group.update({name: value for name, value in other.items() if name != "params"})
        _warn(
            "The schedule is not the checkpoint's, as optim.scheduler or the length of the run "
            "differs: after %s the learning rate is %.4g, not %.4g.",
            self._lasting(done),
            _rates(optimizer)[0],
            before,
        )

    def _trial(self, optimizer: Optimizer) -> tuple[Optimizer, LRScheduler]:
        """An optimizer as this one, which trains nothing, and its schedule, both at the start."""
        groups = [
            {**group, "params": [nn.Parameter(torch.zeros(()))]} for group in optimizer.param_groups
        ]
        for group in groups:
            group["lr"] = group.pop("initial_lr", group["lr"])
        trial = self._make_optimizer(groups)
        schedule = self.on(trial)
        trial.step(lambda: 0.0)  # a schedule warns of an optimizer that never did
        return trial, schedule

    def _lasting(self, number: float) -> str:
        return f"{number:.0f} {self._interval}{'' if number == 1 else 's'}"

    def _advance(self, schedule: LRScheduler) -> None:
        try:
            schedule.step()
        except ValueError as error:  # of torch, such as OneCycleLR's after its last step
            length = self._lasting(self._length)
            raise ConfigError(
                f"optim.scheduler ends before the run of {length} does: {error}"
            ) from error

    def _arguments(self, rates: list[list[float]]) -> list[str]:
        """Arguments that lie behind the run's end, or long before it."""
        problems = []
        for name, value in getattr(self._make, "keywords", {}).items():
            if name not in _TIMES or value is None:
                continue
            last = max(value, default=0) if name in _EVENTS and _is_many(value) else value
            if last > self._length or (name in _EVENTS and last >= self._length):
                problems.append(f"optim.scheduler.{name}={_shown(value)} goes beyond its end")
            elif name in _ENDS and _rises(rates[last:]):
                problems.append(f"after optim.scheduler.{name}={value} the rate rises again")
        return problems


def run_length(trainer: Trainer, interval: str) -> float:
    """How often a schedule advances in the whole run, what is behind a resumed one included.

    Args:
        trainer: whose data is set up.
        interval: "epoch" or "step".

    Returns:
        A number of epochs or optimizer steps, infinite without an end.
    """
    loop, max_epochs = trainer.fit_loop, trainer.max_epochs
    if interval == "step" and max_epochs == -1:
        return math.inf if trainer.max_steps == -1 else trainer.max_steps
    loop.setup_data()
    batches, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
    if math.isinf(batches):
        return math.inf
    epochs, done = trainer.current_epoch, trainer.global_step
    per_epoch = math.ceil(batches / accumulated)
    left = math.ceil((batches - loop.epoch_loop.batch_progress.current.ready) / accumulated)
    steps: float = math.inf
    if max_epochs is not None and max_epochs != -1:
        steps = done + left + (max_epochs - epochs - 1) * per_epoch
    if trainer.max_steps != -1:
        steps = min(steps, trainer.max_steps)
    if interval == "step" or math.isinf(steps):
        return steps
    return epochs + 1 + math.ceil(max(steps - done - left, 0) / per_epoch)


def _rates(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _outcome(rates: list[list[float]]) -> list[str]:
    """What is odd about the rates of a whole run."""
    if len(rates) == 1:
        return []
    if all(rate == rates[0] for rate in rates):
        return ["the rate never changes"]
    return ["the rate still rises at its end"] if _rises(rates[-2:]) else []


def _rises(rates: list[list[float]]) -> bool:
    """Whether the first group's rate is ever higher than before."""
    return any(after[0] > before[0] for before, after in pairwise(rates))


def _is_many(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _shown(value: Any) -> str:
    return str(list(value)) if _is_many(value) else str(value)


def _agree(first: Any, second: Any) -> bool:
    """Whether two states say the same, as far as both say it; numbers are rounded."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        names = first.keys() & second.keys() - {"_step_count"}
        return all(_agree(first[name], second[name]) for name in names)
    if _is_many(first) and _is_many(second):
        return len(first) == len(second) and all(map(_agree, first, second))
    if isinstance(first, float) and isinstance(second, (int, float)):
        return math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-12)
    return bool(first == second)
