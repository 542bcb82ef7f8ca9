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
"""Consecutive steps that may be skipped. After more, the network itself is taken to be broken."""

_logger = logging.getLogger(__name__)


class FiniteSteps:
    """Decides before every optimizer step whether it is taken; all processes decide alike.

    The decision needs no collective of its own: the losses have been summed over the processes, and
    the gradients averaged. Only a step that is refused costs a collective, for its report. The
    decision waits for the device once per optimizer step.

    Args:
        action: "stop" ends the training in every process with an error that names the losses and
            the image ids; "skip" skips the step, logs the same text and counts it.

    Attributes:
        skipped: steps skipped so far.
        norm: () of the gradients that were looked at last; None where a scaler looks at them.

    Raises:
        ConfigError: an unknown action.
    """

    def __init__(self, action: NonFinite) -> None:
        if action not in get_args(NonFinite):
            raise ConfigError(f"module.non_finite is {action!r}; choose stop or skip.")
        self.action = action
        self.skipped = 0
        self.norm: Tensor | None = None
        self._in_a_row = 0
        self._batches: list[tuple[Sequence[int], Mapping[str, Tensor]]] = []
        self._totals: list[Tensor] = []

    def watch(self, image_ids: Sequence[int], losses: Mapping[str, Tensor], total: Tensor) -> None:
        """Remember one batch of the next optimizer step.

        Args:
            image_ids: image ids of the batch.
            losses: () this process's losses by name.
            total: () the trained loss over all processes; the same in each.
        """
        self._batches.append((image_ids, {name: value.detach() for name, value in losses.items()}))
        self._totals.append(total)

    def allow(self, step: int, parameters: Iterable[nn.Parameter], scaled: bool = False) -> bool:
        """Whether the step may be taken. Every process has to call this.

        Args:
            step: number of the optimizer step, for the report.
            parameters: parameters with the gradients that the step would use.
            scaled: whether a gradient scaler handles overflow; gradients are then not checked.

        Raises:
            TrainingError: the step is not finite, and the action is "stop" or too many steps in a
                row were skipped.
        """
        values = list(self._totals)
        gradients = [value.grad for value in parameters if value.grad is not None]
        self.norm = get_total_norm(gradients) if gradients and not scaled else None
        if self.norm is not None:
            values.append(self.norm.float())
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
