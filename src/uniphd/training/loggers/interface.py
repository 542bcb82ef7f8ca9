"""What loggers can do here beyond metrics. Lightning's other loggers work too, without these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Continuation:
    """Where a resumed run goes on.

    Attributes:
        step: optimizer steps before the checkpoint; the first one that is logged again. If the
            checkpoint was written during a validation, that is, too, at the step before.
        rows: what the run logged before, in its order; empty where that is not known.
        position: what the logger's own `position` was when the checkpoint was written; empty where
            the run had no such logger.
    """

    step: int
    rows: Sequence[LoggedRow] = ()
    position: Mapping[str, Any] = field(default_factory=dict)


class ContinuedLogger(ABC):
    """A logger whose record has every step once, however often the run is interrupted."""

    @abstractmethod
    def position(self) -> dict[str, Any]:
        """Plain values for a checkpoint, which `continue_from` gets back."""

    @abstractmethod
    def continue_from(self, start: Continuation) -> None:
        """Go on with an interrupted run; called before anything is logged."""


class StepwiseLogger(ABC):
    """A logger that holds a step back until all of it is logged."""

    @abstractmethod
    def complete(self, step: int) -> None:
        """Nothing more is logged at the steps before this one."""


class FigureLogger(ABC):
    """A logger that shows images."""

    @abstractmethod
    def log_figure(self, name: str, image: Image.Image, step: int) -> None:
        """Show one image."""

    @abstractmethod
    def log_people(self, name: str, people: Sequence[Row], step: int) -> None:
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


def logged_step(trainer: Trainer) -> int:
    """The step that Lightning logs metrics at: optimizer steps before the present one."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped
