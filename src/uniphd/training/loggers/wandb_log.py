"""Weights & Biases, with images and models; a run is one run, however often it is resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from uniphd.training.loggers.interface import (
    Continuation,
    ContinuedLogger,
    FigureLogger,
    ModelLogger,
    StepwiseLogger,
)
from uniphd.training.loggers.wandb_files import last_step
from uniphd.visualization.contact_sheet import Row, draw_panels

_STEP = "trainer/global_step"  # Lightning's name of the axis


class WandbLog(WandbLogger, ContinuedLogger, StepwiseLogger, FigureLogger, ModelLogger):
    """Lightning's logger with images and models, and W&B's steps are those of the training.

    A step is sent as a whole, when it is over. W&B's history cannot be taken back, so a
    resumed run leaves out what is there already, and sends again what was lost with a killed
    process. The run ends with the training: a sweep's next one in the same process is another.

    Args:
        project: of W&B.
        save_dir: folder of the run; W&B makes its own folder `wandb` in it.
        offline: keep everything on disk, for `wandb sync`.
        id: of the run; None for a new one, or for the one whose checkpoint is resumed.
        options: others of `wandb.init`, such as `name`, `group` and `tags`.
    """

    def __init__(
        self,
        project: str,
        save_dir: str | Path,
        offline: bool = False,
        id: str | None = None,
        **options: Any,
    ) -> None:
        # Lightning's own `offline` would stay set for the next training in this process.
        mode = "offline" if offline else None
        super().__init__(project=project, save_dir=save_dir, id=id, mode=mode, **options)
        del self._wandb_init["anonymous"]  # W&B warns of it in every run, though it is None
        self._folders = [str(Path(save_dir).resolve())]  # of this run, the latest last
        self._first = 0  # step that W&B does not have yet
        self._step = 0  # of what waits
        self._waiting: dict[str, Any] = {}

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add to what is logged at a step."""
        self._add(metrics, self._step if step is None else step)

    @rank_zero_only
    def complete(self, step: int) -> None:
        """Send what waits, unless it is of this step."""
        if self._step < step:
            self._send()

    @rank_zero_only
    def log_figure(self, name: str, image: Image.Image, step: int) -> None:
        """Show one image."""
        self._add({name: wandb.Image(image)}, step)

    @rank_zero_only
    def log_people(self, name: str, people: Sequence[Row], step: int) -> None:
        """Show a table with a line per person."""
        self._add({name: people_table(people)}, step)

    @rank_zero_only
    def log_model(self, folder: Path, alias: str, metadata: Mapping[str, Any]) -> None:
        """Keep a model folder as the artifact `model-<run id>`."""
        artifact = wandb.Artifact(f"model-{self.experiment.id}", "model", metadata=dict(metadata))
        artifact.add_dir(str(folder))
        self.experiment.log_artifact(artifact, aliases=["latest", alias])

    def position(self) -> dict[str, Any]:
        """The run's id, and the folders that its files are in."""
        return {"id": self.version, "folders": self._folders}

    def continue_from(self, start: Continuation) -> None:
        """Go on with the same run, unless another id is given, and send what is missing."""
        if self._id is None or self._id == start.position.get("id"):
            self._id = self._wandb_init["id"] = start.position.get("id")
            folders = [*start.position.get("folders", []), *self._folders]
            self._folders = list(dict.fromkeys(folders))
        self._first = self._next_step()
        for row in start.rows:
            self.log_metrics(row.values, row.step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run; a step in which it failed is left to the run that resumes."""
        if self._experiment is None:
            return
        if status == "success":
            self._send()
        self._id = self.version
        self._experiment.finish(exit_code=0 if status == "success" else 1)
        self._experiment = None

    def _next_step(self) -> int:
        """The first step that the run's history does not have."""
        run = self.experiment  # online, it knows the history
        if not run.offline:
            return int(run.starting_step)
        steps = [last_step(Path(folder), run.id) for folder in self._folders]
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


def people_table(people: Sequence[Row]) -> wandb.Table:
    """A line per person: image, prompt, prediction and annotation with their likeness."""
    images = ["image", "prediction", "annotation"]
    table = wandb.Table(columns=["person", "prompt", *images, "score", "mask IoU", "OKS"])
    for row in people:
        panels = [wandb.Image(panel) for panel in draw_panels(row)]
        prompt = row.prompt.describe()
        table.add_data(row.title, prompt, *panels, row.score, row.iou, row.oks)
    return table
