"""What a logger can do beyond metrics. Lightning's own loggers work too, but cannot do these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Trainer
from PIL import Image

from uniphd.visualization.contact_sheet import Row


@dataclass(frozen=True)
class LoggedRow:
    """The values of one logging call.

    Attributes:
        step: counted from 0, as Lightning logs it.
        values: values by name.
    """

    step: int
    values: dict[str, float]


class ResumableLogger(ABC):
    """A logger that has every step once, however often the run is interrupted and resumed."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""

    @abstractmethod
    def load_state_dict(
        self, state_dict: Mapping[str, Any], step: int, rows: Sequence[LoggedRow]
    ) -> None:
        """Continue an interrupted run; called before anything is logged.

        Args:
            state_dict: the logger's state in the checkpoint; empty if the run had no such logger.
            step: optimizer steps before the checkpoint: the first step that is logged again. If the
                checkpoint was written during a validation, the step before it is logged again too.
            rows: what the run logged earlier, in order; empty if that is unknown.
        """

    def complete(self, step: int) -> None:  # noqa: B027 (most have nothing to do)
        """Nothing more is logged at the steps before this one."""


class FigureLogger(ABC):
    """A logger that shows images."""

    @abstractmethod
    def log_figure(self, name: str, image: Image.Image, step: int) -> None:
        """Show one image."""

    @abstractmethod
    def log_instances(self, name: str, rows: Sequence[Row], step: int) -> None:
        """Show image, prompt, prediction and annotation of every person."""


class ModelLogger(ABC):
    """A logger that stores networks."""

    @abstractmethod
    def log_model(self, folder: Path, alias: str, metadata: Mapping[str, Any]) -> None:
        """Store a copy of a model folder.

        Args:
            folder: a model folder that `uniphd.load_model` reads.
            alias: which of the run's networks it is, "best" or "last".
            metadata: plain values that are stored beside it.
        """


def figure_loggers(trainer: Trainer) -> list[FigureLogger]:
    """The loggers that show images, in the one process that logs; elsewhere none."""
    if not trainer.is_global_zero:
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, FigureLogger)]
