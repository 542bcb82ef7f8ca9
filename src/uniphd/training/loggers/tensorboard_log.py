"""TensorBoard, with images, also of a run that was interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from uniphd.errors import ConfigError
from uniphd.training.lightning_internals import forget_from
from uniphd.training.loggers.interface import FigureLogger, LoggedRow, ResumableLogger
from uniphd.visualization.contact_sheet import Row, contact_sheet


class TensorBoardLog(TensorBoardLogger, ResumableLogger, FigureLogger):
    """Lightning's logger with images; people are shown as contact sheets.

    Args:
        folder: where to write event files.

    Raises:
        ConfigError: tensorboard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            super().__init__(save_dir=folder, name="", version="", default_hp_metric=False)
        except ModuleNotFoundError as error:
            raise ConfigError(
                "logger=tensorboard needs TensorBoard; pip install 'uniphd[tensorboard]'."
            ) from error

    def log_figure(self, name: str, image: Image.Image, step: int) -> None:
        """Show one image."""
        pixels = np.asarray(image.convert("RGB"))
        self.experiment.add_image(name, pixels, step, dataformats="HWC")

    def log_instances(self, name: str, rows: Sequence[Row], step: int) -> None:
        """Show a contact sheet."""
        self.log_figure(name, contact_sheet(rows), step)

    @rank_zero_only
    def save(self) -> None:
        """Write what is logged; Lightning writes an empty `hparams.yaml`, too."""
        self.experiment.flush()

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `run.json` has them."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the folder says it all."""
        return {}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], step: int, rows: Sequence[LoggedRow]
    ) -> None:
        """Take back what was logged after the checkpoint; into a new folder, copy what was before.

        Event files are never changed: a mark tells TensorBoard from which step on to forget.
        """
        if any(Path(self.log_dir).glob("events.out.tfevents.*")):
            forget_from(self, step)
            return
        for row in rows:
            self.log_metrics(row.values, row.step)
