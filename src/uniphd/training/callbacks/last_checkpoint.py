"""`last.ckpt`: always the newest state, for resuming."""

from __future__ import annotations

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Overwrites `last.ckpt` after every validation (or epoch without one) and at the end.

    Lightning's `save_last` copies only what a monitored metric chose to keep, and a run that ends
    within an epoch, by its number of steps or its time, would lose what came after.

    Args:
        dirpath: folder of the checkpoint.
    """

    def __init__(self, dirpath: str | Path) -> None:
        super().__init__(dirpath=dirpath, filename="last", enable_version_counter=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, unless the newest state is saved already."""
        if self._last_global_step_saved != trainer.global_step:
            trainer.save_checkpoint(Path(self.dirpath or ".") / f"{self.filename}.ckpt")
