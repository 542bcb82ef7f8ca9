"""Images of the first validated people: image and prompt, prediction, annotation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from uniphd.structures import Batch
from uniphd.training.first_people import FirstPeople
from uniphd.visualization.contact_sheet import contact_sheet


class ContactSheet(Callback):
    """Writes `<kind>.jpg` per prompt kind after every validation.

    Args:
        folder: where to write.
        people: how many people to show per prompt kind, the first of the validation set.
    """

    def __init__(self, folder: str | Path, people: int = 8) -> None:
        self.folder = Path(folder)
        self.people = FirstPeople(people)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the rows of the validation before."""
        self.people.rows.clear()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the best detection in each of the first images."""
        if trainer.is_global_zero:
            self.people.collect(trainer, outputs, batch, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheets."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for kind, rows in self.people.rows.items():
            contact_sheet(rows).save(self.folder / f"{kind}.jpg", quality=90)
