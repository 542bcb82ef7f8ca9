"""Images for the loggers that show any (W&B, TensorBoard), at chosen validations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from uniphd.errors import ConfigError
from uniphd.models.uniphd import UniPHD
from uniphd.structures import Batch
from uniphd.training.first_people import FirstPeople
from uniphd.training.lightning_internals import logged_step
from uniphd.training.loggers.interface import FigureLogger, figure_loggers
from uniphd.visualization.adjacency import adjacency_image, adjacency_matrices


class ValidationImages(Callback):
    """Base of callbacks that show something at every n-th validation.

    Args:
        every: n; 1 for all.

    Raises:
        ConfigError: n is below 1.

    Attributes:
        loggers: those to show it to; none between the chosen validations, in other processes than
            the first, and where no logger shows images, so that nothing is drawn in vain.
    """

    def __init__(self, every: int = 1) -> None:
        if every < 1:
            raise ConfigError(f"every={every} of {type(self).__name__}: give at least 1.")
        self.every = every
        self.validations = 0
        self.loggers: list[FigureLogger] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count, and choose."""
        self.loggers = []
        if not trainer.sanity_checking:
            self.validations += 1
            if self.validations % self.every == 0:
                self.loggers = figure_loggers(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The count, for a checkpoint."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.validations = state_dict["validations"]


class InstancesTable(ValidationImages):
    """Shows the first validated people as `instances/<kind>`: a table in W&B, else a contact sheet.

    Args:
        people: how many to show per prompt kind.
        every: at every n-th validation.
    """

    def __init__(self, people: int = 8, every: int = 1) -> None:
        super().__init__(every)
        self.people = FirstPeople(people)

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
        if self.loggers:
            self.people.collect(trainer, outputs, batch, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show them, and forget them."""
        for logger in self.loggers:
            for kind, rows in self.people.rows.items():
                logger.log_instances(f"instances/{kind}", rows, logged_step(trainer))
        self.people.rows.clear()


class AdjacencyMaps(ValidationImages):
    """Shows the decoder's learned graphs as heat maps, `adjacency/layer_<n>`."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw every layer that has a graph."""
        if not self.loggers:
            return
        model = cast(UniPHD, pl_module.model)
        for number, matrix in enumerate(adjacency_matrices(model), 1):
            name = f"adjacency/layer_{number}"
            image = adjacency_image(matrix, model.schema, f"decoder layer {number}")
            for logger in self.loggers:
                logger.log_figure(name, image, logged_step(trainer))
