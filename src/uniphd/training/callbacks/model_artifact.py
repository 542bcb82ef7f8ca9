"""The trained network, for the loggers that keep models (W&B)."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from uniphd.checkpoints.load import read_checkpoint
from uniphd.checkpoints.store import save_folder
from uniphd.training.loggers.interface import ModelLogger


class ModelArtifact(Callback):
    """Hands over the best checkpoint's network at the end, or the last one's where none is best.

    What is kept is a model folder, as `uniphd-convert` writes it: a third of the checkpoint.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Convert the checkpoint and hand it over."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, ModelLogger)]
        chosen = _chosen(trainer)
        if not (trainer.is_global_zero and loggers and chosen):
            return
        with TemporaryDirectory() as name:
            folder = Path(name)
            save_folder(folder, *read_checkpoint(Path(chosen.best_model_path)))
            metadata: dict[str, float] = {"steps": trainer.global_step}
            if chosen.monitor and chosen.best_model_score is not None:
                metadata[chosen.monitor] = float(chosen.best_model_score)
            for logger in loggers:
                logger.log_model(folder, "best" if chosen.monitor else "last", metadata)


def _chosen(trainer: Trainer) -> ModelCheckpoint | None:
    """Who wrote the checkpoint to keep; one that follows a metric goes before others."""
    written = [
        callback
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint) and Path(callback.best_model_path).is_file()
    ]
    return min(written, key=lambda callback: callback.monitor is None, default=None)
