"""Training curves as an image: losses and validated metrics, by step as the loggers count."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from uniphd.visualization.curves import Curves, draw_curves


class TrainingCurves(Callback):
    """Writes one image after every validation and at the end; a resumed run continues it.

    Args:
        path: the image, `.png` or `.svg`.
        losses: logged names for the first panel.
        metrics: names of metrics, one panel each, with one curve per prompt kind.
    """

    def __init__(self, path: str | Path, losses: list[str], metrics: list[str]) -> None:
        self.path = Path(path)
        self.losses = list(losses)
        self.metrics = list(metrics)
        self.points: dict[str, list[tuple[int, float]]] = defaultdict(list)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the losses of the steps that are logged."""
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            for name in self.losses:
                if name in trainer.callback_metrics:
                    value = float(trainer.callback_metrics[name])
                    self.points[name].append((trainer.global_step - 1, value))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the metrics of every prompt kind, and draw."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/") and name.rpartition("/")[2] in self.metrics:
                self.points[name].append((trainer.global_step - 1, float(value)))
        self._draw()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what came after the last validation."""
        if trainer.is_global_zero:
            self._draw()

    def state_dict(self) -> dict[str, Any]:
        """All points, for a checkpoint."""
        return {"points": dict(self.points)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint's points."""
        self.points.update(state_dict["points"])

    def _draw(self) -> None:
        panels: dict[str, Curves] = {
            "loss": {name: self.points[name] for name in self.losses if self.points[name]}
        }
        for metric in self.metrics:
            kinds = {
                name.split("/")[1]: points
                for name, points in self.points.items()
                if name.endswith(f"/{metric}")
            }
            if len(kinds) == 2:
                kinds.pop("mean", None)  # of a single kind
            panels[metric] = kinds
        draw_curves({title: curves for title, curves in panels.items() if curves}, self.path)
