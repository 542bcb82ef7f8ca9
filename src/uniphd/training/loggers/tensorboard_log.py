"""TensorBoard with images; a resumed run continues its log."""

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
    """Lightning's logger with images. People are shown as a contact sheet.

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
        """Write what is logged, without the empty `hparams.yaml` that Lightning adds."""
        self.experiment.flush()

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `run.json` has them."""

    def state_dict(self) -> dict[str, Any]:
        """Empty: the event files in the folder are the state."""
        return {}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], step: int, rows: Sequence[LoggedRow]
    ) -> None:
        """Drop what was logged after the checkpoint; copy the earlier rows if the folder is new.

        Event files are never changed: an event tells TensorBoard from which step on to drop values.
        """
        if any(Path(self.log_dir).glob("events.out.tfevents.*")):
            forget_from(self, step)
            return
        for row in rows:
            self.log_metrics(row.values, row.step)
