"""Training curves."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from PIL import Image

from uniphd.training.callbacks.curves import TrainingCurves
from uniphd.training.loggers.csv_log import CsvLog


class _Logging(BoringModel):
    def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
        output = super().training_step(batch, batch_idx)
        self.log("train/loss", output["loss"])
        return output

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/text/mIoU", 0.5)
        self.log("val/mean/mIoU", 0.5)
        self.log("val/text/lr", 1.0)


def _train(folder: Path, curves: TrainingCurves, **options: Any) -> None:
    lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=CsvLog(folder / "csv"),
        callbacks=[curves],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=1,
        **options,
    ).fit(_Logging())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The panels of every image, in place of the images."""
    panels: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "uniphd.training.callbacks.curves.plot_curves", lambda curves, _: panels.append(curves)
    )
    return panels


@pytest.mark.parametrize(
    ("accumulated", "every", "losses"),
    [(4, 2, [1, 3, 5, 7]), (1, 10, [9, 19, 29]), (1, 0, None)],
)
def test_points_are_those_of_the_loggers(
    accumulated: int,
    every: int,
    losses: list[int] | None,
    tmp_path: Path,
    drawn: list[dict[str, Any]],
) -> None:
    curves = TrainingCurves(tmp_path / "curves.png", ["train/loss"], ["mIoU"])
    _train(
        tmp_path,
        curves,
        accumulate_grad_batches=accumulated,
        log_every_n_steps=every,
        max_epochs=1,
        limit_train_batches=32,
    )
    panels = drawn[-1]
    if losses is None:
        assert "loss" not in panels
    else:
        assert [step for step, _ in panels["loss"]["train/loss"]] == losses
    assert panels["mIoU"] == {"text": [(32 // accumulated - 1, 0.5)]}


def test_an_image_with_a_panel_for_losses_and_one_per_metric(tmp_path: Path) -> None:
    path = tmp_path / "images" / "curves.png"
    curves = TrainingCurves(path, ["train/loss"], ["mIoU"])
    _train(tmp_path, curves, max_steps=20, log_every_n_steps=5, val_check_interval=10)
    image = np.asarray(Image.open(path).convert("RGB"))
    assert image.shape[1] > 1.5 * image.shape[0]  # two panels side by side
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10


def test_the_mean_of_several_kinds_is_drawn_and_that_of_one_is_not(
    tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    log = CsvLog(tmp_path)
    trainer = SimpleNamespace(loggers=[log], is_global_zero=True, sanity_checking=False)
    curves = TrainingCurves(tmp_path / "curves.png", [], ["mIoU"])
    curves.on_validation_end(trainer, None)
    assert drawn == []  # nothing is logged yet
    log.log_metrics({"val/text/mIoU": 0.25, "val/mean/mIoU": 0.5}, 9)
    curves.on_validation_end(trainer, None)
    log.log_metrics({"val/point/mIoU": 0.75}, 9)
    curves.on_validation_end(trainer, None)
    assert [set(panels["mIoU"]) for panels in drawn] == [{"text"}, {"text", "point", "mean"}]
