"""What loggers can do here beyond metrics. Lightning's other loggers work too, without these."""

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
    """What was logged at once.

    Attributes:
        step: counted from 0, as Lightning logs it.
        values: by name.
    """

    step: int
    values: dict[str, float]


class ResumableLogger(ABC):
    """A logger whose record has every step once, however often the run is interrupted."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""

    @abstractmethod
    def load_state_dict(
        self, state_dict: Mapping[str, Any], step: int, rows: Sequence[LoggedRow]
    ) -> None:
        """Continue an interrupted run; called before anything is logged.

        Args:
            state_dict: of the checkpoint; empty where the run had no such logger.
            step: optimizer steps before the checkpoint; the first one that is logged again. If the
                checkpoint was written during a validation, so is the step before.
            rows: what the run logged before, in its order; empty where that is not known.
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
    """A logger that keeps networks."""

    @abstractmethod
    def log_model(self, folder: Path, alias: str, metadata: Mapping[str, Any]) -> None:
        """Keep a copy of a model folder.

        Args:
            folder: as `uniphd.load_model` reads it.
            alias: which of the run's networks it is, "best" or "last".
            metadata: plain values.
        """


def figure_loggers(trainer: Trainer) -> list[FigureLogger]:
    """The loggers that show images, in the one process that logs; elsewhere none."""
    if not trainer.is_global_zero:
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, FigureLogger)]
