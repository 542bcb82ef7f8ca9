"""What loggers can do here beyond metrics. Lightning's other loggers work too, without these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

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
        step: the first step that is trained again.
        rows: what the run logged before, in its order; empty where that is not known.
        position: what the logger's own `position` was when the checkpoint was written; empty where
            the run had no such logger.
    """

    step: int
    rows: Sequence[LoggedRow] = ()
    position: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class ContinuedLogger(Protocol):
    """A logger whose record has every step once, however often the run is interrupted."""

    def position(self, step: int) -> dict[str, Any]:
        """Plain values for a checkpoint that is written after `step` steps."""

    def continue_from(self, start: Continuation) -> None:
        """Go on with an interrupted run; called before anything is logged."""


@runtime_checkable
class PictureLogger(Protocol):
    """A logger that shows pictures."""

    def log_picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Show one picture."""

    def log_people(self, name: str, people: Sequence[Row], step: int) -> None:
        """Show photograph, prompt, prediction and annotation of every person."""


@runtime_checkable
class ModelLogger(Protocol):
    """A logger that keeps networks."""

    def log_model(self, folder: Path, alias: str, metadata: Mapping[str, Any]) -> None:
        """Keep a copy of a model folder.

        Args:
            folder: as `uniphd.load_model` reads it.
            alias: which of the run's networks it is, "best" or "last".
            metadata: plain values.
        """


def picture_loggers(trainer: Trainer) -> list[PictureLogger]:
    """The loggers that show pictures, in the one process that logs; elsewhere none."""
    if not trainer.is_global_zero:
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, PictureLogger)]


def logged_step(trainer: Trainer) -> int:
    """The step that Lightning logs metrics at: optimizer steps before the present one."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped
