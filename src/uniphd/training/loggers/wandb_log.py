"""Weights & Biases with images and models; a resumed run continues the same W&B run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from uniphd.training.loggers.interface import (
    FigureLogger,
    LoggedRow,
    ModelLogger,
    ResumableLogger,
)
from uniphd.training.loggers.wandb_files import last_step
from uniphd.visualization.contact_sheet import Row, render_panels

_STEP = "trainer/global_step"  # Lightning's name of the axis


class WandbLog(Logger, ResumableLogger, FigureLogger, ModelLogger):
    """Logs metrics, images and models; W&B's steps are the training's optimizer steps.

    A step is sent as a whole, once it is complete. W&B's history cannot be changed afterwards.
    A resumed run therefore skips the steps that the history has, and sends again those that were
    lost when the process was killed. W&B knows the steps of an online run. The steps of an offline
    run are read from its files, because W&B's own process may lose data when it is killed.

    Lightning's `WandbLogger` is not used: the id of its run cannot be set after construction.

    Args:
        project: the W&B project.
        save_dir: folder of the run; W&B creates its own folder `wandb` in it.
        offline: keep everything on disk, for `wandb sync`.
        id: the run's id; None for a new run, or for the run whose checkpoint is resumed.
        options: further arguments of `wandb.init`, such as `name`, `group` and `tags`.
    """

    def __init__(
        self,
        project: str,
        save_dir: str | Path,
        offline: bool = False,
        id: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        mode = "offline" if offline else None
        self._options = dict(project=project, dir=str(save_dir), mode=mode, **options)
        self._project = project
        self._id = id
        self._run: wandb.Run | None = None
        self._folders = [str(Path(save_dir).resolve())]  # of this run, the latest last
        self._first = 0  # step that W&B does not have yet
        self._step = 0  # of what waits
        self._waiting: dict[str, Any] = {}

    @property
    @rank_zero_experiment
    def experiment(self) -> wandb.Run:
        """W&B's run, which starts when this is first read."""
        if self._run is None:
            self._run = wandb.init(id=self._id, resume="allow", **self._options)
            self._run.define_metric(_STEP)
            self._run.define_metric("*", step_metric=_STEP, step_sync=True)
        return self._run

    @property
    def name(self) -> str:
        """The project's name."""
        return self._project

    @property
    def version(self) -> str | None:
        """The run's id, once there is one."""
        return self._id if self._run is None else self._run.id

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Show the configuration."""
        self.experiment.config.update(params, allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add values to a step."""
        self._add(metrics, self._step if step is None else step)

    @rank_zero_only
    def complete(self, step: int) -> None:
        """Send the values of the steps before this one."""
        if self._step < step:
            self._send()

    @rank_zero_only
    def log_figure(self, name: str, image: Image.Image, step: int) -> None:
        """Show one image."""
        self._add({name: wandb.Image(image)}, step)

    @rank_zero_only
    def log_instances(self, name: str, rows: Sequence[Row], step: int) -> None:
        """Show a table with a row per person."""
        self._add({name: instances_table(rows)}, step)

    @rank_zero_only
    def log_model(self, folder: Path, alias: str, metadata: Mapping[str, Any]) -> None:
        """Store a model folder as the artifact `model-<run id>`."""
        artifact = wandb.Artifact(f"model-{self.experiment.id}", "model", metadata=dict(metadata))
        artifact.add_dir(str(folder))
        self.experiment.log_artifact(artifact, aliases=["latest", alias])

    def state_dict(self) -> dict[str, Any]:
        """The run's id, and the folders that hold its files."""
        return {"id": self.version, "folders": self._folders}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], step: int, rows: Sequence[LoggedRow]
    ) -> None:
        """Continue the run, unless another id was given, and send the rows that it lacks."""
        if self._id is None or self._id == state_dict.get("id"):
            self._id = state_dict.get("id")
            self._folders = list(dict.fromkeys([*state_dict.get("folders", []), *self._folders]))
        self._first = self._next_step()
        for row in rows:
            self.log_metrics(row.values, row.step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run. A step that failed is not sent; a resumed run trains and sends it again.

        The next training of a sweep in the same process is a run of its own.
        """
        if self._run is None:
            return
        if status == "success":
            self._send()
        self._id = self.version
        self._run.finish(exit_code=0 if status == "success" else 1)
        self._run = None

    def _next_step(self) -> int:
        """The first step that the run's history does not have."""
        if not self.experiment.offline:
            return int(self.experiment.starting_step)
        steps = [last_step(Path(folder), self.experiment.id) for folder in self._folders]
        return 1 + max((step for step in steps if step is not None), default=-1)

    def _add(self, values: Mapping[str, Any], step: int) -> None:
        if step < self._first:
            return
        if step != self._step:
            self._send()
        self._step = step
        self._waiting.update(values)

    def _send(self) -> None:
        if self._waiting:
            self.experiment.log({**self._waiting, _STEP: self._step}, step=self._step)
            self._waiting = {}


def instances_table(rows: Sequence[Row]) -> wandb.Table:
    """A row per person: image, prompt, prediction and annotation, score, mask IoU and OKS."""
    images = ["image", "prediction", "annotation"]
    table = wandb.Table(columns=["person", "prompt", *images, "score", "mask IoU", "OKS"])
    for row in rows:
        panels = [wandb.Image(panel) for panel in render_panels(row)]
        table.add_data(row.title, row.prompt.describe(), *panels, row.score, row.iou, row.oks)
    return table
