"""Keeps losses and gradients that are NaN or infinite out of the network."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from uniphd.errors import ConfigError, TrainingError
from uniphd.training.processes import gather

NonFinite: TypeAlias = Literal["stop", "skip"]

MAX_SKIPPED = 10
"""Steps in a row that may be left out; more are no accident: the network itself is broken."""

_logger = logging.getLogger(__name__)


class FiniteSteps:
    """Decides before every optimizer step whether it may be taken; all processes decide alike.

    They need no collective for it: losses are judged by their sum over the processes, gradients
    after the processes have averaged them. Only a step that must not be taken costs another one,
    for its report. The decision costs one wait for the device per optimizer step.

    Args:
        action: "stop" ends the training, in every process, with the names of the losses and the
            image ids; "skip" leaves the step out, logs the same and counts.

    Attributes:
        skipped: steps left out so far.

    Raises:
        ConfigError: an unknown action.
    """

    def __init__(self, action: NonFinite) -> None:
        if action not in get_args(NonFinite):
            raise ConfigError(f"module.non_finite is {action!r}; choose stop or skip.")
        self.action = action
        self.skipped = 0
        self._in_a_row = 0
        self._batches: list[tuple[Sequence[int], Mapping[str, Tensor]]] = []
        self._totals: list[Tensor] = []

    def watch(self, image_ids: Sequence[int], losses: Mapping[str, Tensor], total: Tensor) -> None:
        """Take note of one batch of the coming optimizer step.

        Args:
            image_ids: of the batch.
            losses: () of this process by name.
            total: () what is trained on, over all processes; the same in each.
        """
        self._batches.append((image_ids, {name: value.detach() for name, value in losses.items()}))
        self._totals.append(total)

    def allow(self, step: int, parameters: Iterable[nn.Parameter], scaled: bool = False) -> bool:
        """Whether the step may be taken. Every process has to ask.

        Args:
            step: number of the optimizer step, for the report.
            parameters: with the gradients that the step would use.
            scaled: whether a gradient scaler watches over the gradients, whose overflow is its
                ordinary business.

        Raises:
            TrainingError: it may not, and the action is "stop" or too many were left out.
        """
        values = list(self._totals)
        gradients = [value.grad for value in parameters if value.grad is not None]
        if gradients and not scaled:
            values.append(get_total_norm(gradients).float())
        finite = not values or bool(torch.stack(values).isfinite().all())
        if finite:
            self._in_a_row = 0
        else:
            self._refuse(step)
        self._batches.clear()
        self._totals.clear()
        return finite

    def _refuse(self, step: int) -> None:
        findings = gather(self._findings())
        places = [
            f"{finding} in process {rank} of {len(findings)}"
            for rank, finding in enumerate(findings)
            if finding
        ]
        reason = "; ".join(places) or "the gradient, though every loss is finite"
        message = f"Step {step} is not finite: {reason}."
        if self.action == "stop":
            raise TrainingError(
                f"{message} Look at these people and at the learning rate; module.non_finite=skip "
                "leaves such steps out."
            )
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row > MAX_SKIPPED:
            raise TrainingError(
                f"{message} {MAX_SKIPPED} steps before it were left out already, so the network "
                "itself is broken; go back to an earlier checkpoint, or lower optim.lr."
            )
        _logger.warning("%s It is left out, as %d so far.", message, self.skipped)

    def _findings(self) -> str:
        """This process's losses and image ids; empty where it has nothing to report."""
        found = []
        for image_ids, losses in self._batches:
            if names := [name for name, value in losses.items() if not value.isfinite()]:
                found.append(f"{', '.join(names)} of image ids {', '.join(map(str, image_ids))}")
        return "; ".join(found)
