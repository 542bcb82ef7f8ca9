"""Loggers of a run that is resumed: every checkpoint stores their state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from uniphd.training.lightning_internals import logged_step
from uniphd.training.loggers.csv_log import CsvLog, rows_before
from uniphd.training.loggers.interface import ResumableLogger

LOGS_KEY = "uniphd_logs"
"""Where a training checkpoint holds the loggers' states, by the names of their classes."""


class LoggerStates(Callback):
    """Writes the loggers' states into every checkpoint, and tells them when a step is over."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tell the loggers that earlier steps are complete, validations included."""
        for logger in trainer.loggers:
            if isinstance(logger, ResumableLogger):
                logger.complete(logged_step(trainer))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the states; plain values, which `weights_only` loading accepts."""
        checkpoint[LOGS_KEY] = {
            type(logger).__name__: logger.state_dict()
            for logger in trainer.loggers
            if isinstance(logger, ResumableLogger)
        }


def load_logger_states(
    loggers: Sequence[Logger], checkpoint: Mapping[str, Any], path: str | Path
) -> None:
    """Let loggers continue the run of a checkpoint; called in the process that logs.

    Args:
        loggers: loggers that have not logged anything yet.
        checkpoint: the content of the checkpoint that training resumes from.
        path: the checkpoint's file.
    """
    step, states = int(checkpoint["global_step"]), checkpoint.get(LOGS_KEY, {})
    rows = rows_before(step, states.get(CsvLog.__name__, {}), Path(path))
    for logger in loggers:
        if isinstance(logger, ResumableLogger):
            logger.load_state_dict(states.get(type(logger).__name__, {}), step, rows)
