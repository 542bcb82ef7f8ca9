"""The trained network, for the loggers that keep models (W&B)."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from uniphd.checkpoints.folder import ModelConfig, save_folder
from uniphd.checkpoints.reading import portable_config, read_checkpoint
from uniphd.models.uniphd import UniPHD
from uniphd.training.loggers.interface import ModelLogger


class ModelArtifact(Callback):
    """Hands over the best checkpoint's network at the end, or the last one where none is best.

    What is kept is a model folder, as `uniphd-convert` writes it: a third of a checkpoint.
    """

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the folder and hand it over; loggers end after this hook."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, ModelLogger)]
        if not (trainer.is_global_zero and loggers and stage == "fit"):
            return
        best = _best(trainer)
        metadata: dict[str, float] = {"steps": trainer.global_step}
        if best is not None and best.best_model_score is not None:
            metadata[str(best.monitor)] = float(best.best_model_score)
        with TemporaryDirectory() as folder:
            config, weights = _last(pl_module)
            if best is not None:
                config, weights = read_checkpoint(Path(best.best_model_path))
            save_folder(Path(folder), config, weights)
            for logger in loggers:
                logger.log_model(Path(folder), "last" if best is None else "best", metadata)


def _last(module: LightningModule) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The network as it is, which is the average of its weights where one is kept."""
    network = cast(UniPHD, module.model)
    config = portable_config(cast(ModelConfig, module.model_config), network)
    return ModelConfig(**config), network.state_dict()


def _best(trainer: Trainer) -> ModelCheckpoint | None:
    """Who wrote the checkpoint that is best by a metric."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor is not None:
            return callback if Path(callback.best_model_path).is_file() else None
    return None
