"""Training curves as an image, drawn from the run's `metrics.csv`."""

from __future__ import annotations

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from uniphd.analysis.run_log import read_metrics
from uniphd.training.loggers.csv_log import CsvLog
from uniphd.visualization.curves import Curves, plot_curves


class TrainingCurves(Callback):
    """Writes one image after every validation and at the end; nothing without a `CsvLog`.

    Args:
        path: the image, `.png` or `.svg`.
        losses: logged names for the first panel.
        metrics: names of metrics, one panel each, with one curve per prompt kind.
    """

    def __init__(self, path: str | Path, losses: list[str], metrics: list[str]) -> None:
        self.path = Path(path)
        self.losses = list(losses)
        self.metrics = list(metrics)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what is logged so far."""
        if not trainer.sanity_checking:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what came after the last validation."""
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        logs = [logger for logger in trainer.loggers if isinstance(logger, CsvLog)]
        if not (trainer.is_global_zero and logs):
            return
        logs[0].save()
        if logs[0].path.is_file():  # nothing may be logged yet
            plot_curves(self._panels(read_metrics(logs[0].path)), self.path)

    def _panels(self, points: Curves) -> dict[str, Curves]:
        """Curves by the title of their panel; a panel without curves is left out."""
        panels = {"loss": {name: points[name] for name in self.losses if name in points}}
        for metric in self.metrics:
            kinds = {
                name.split("/")[1]: values
                for name, values in points.items()
                if name.startswith("val/") and name.endswith(f"/{metric}")
            }
            if len(kinds) == 2:
                kinds.pop("mean", None)  # of a single kind
            panels[metric] = kinds
        return {title: curves for title, curves in panels.items() if curves}
