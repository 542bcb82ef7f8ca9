"""Logs of a run that is interrupted and resumed: what checkpoints hold for it, and going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from uniphd.training.loggers.csv_log import CsvLog, rows_before
from uniphd.training.loggers.interface import (
    Continuation,
    ContinuedLogger,
    StepwiseLogger,
    logged_step,
)

LOGS_KEY = "uniphd_logs"
"""Where a training checkpoint holds the loggers' positions, by the names of their classes."""


class ContinuedLogs(Callback):
    """Writes into every checkpoint where the loggers are, and tells them when a step is over."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The steps before are complete: trained, and validated where they are."""
        for logger in trainer.loggers:
            if isinstance(logger, StepwiseLogger):
                logger.complete(logged_step(trainer))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the positions; plain values, which `weights_only` loading accepts."""
        checkpoint[LOGS_KEY] = {
            type(logger).__name__: logger.position()
            for logger in trainer.loggers
            if isinstance(logger, ContinuedLogger)
        }


def continue_logs(loggers: Sequence[Logger], checkpoint: Mapping[str, Any]) -> None:
    """Let loggers go on with the run of a checkpoint; for the one process that logs.

    Args:
        loggers: that have not logged anything yet.
        checkpoint: the content of the file that training is to resume from.
    """
    step, positions = int(checkpoint["global_step"]), checkpoint.get(LOGS_KEY, {})
    rows = rows_before(step, positions.get(CsvLog.__name__, {}))
    for logger in loggers:
        if isinstance(logger, ContinuedLogger):
            position = positions.get(type(logger).__name__, {})
            logger.continue_from(Continuation(step, rows, position))
