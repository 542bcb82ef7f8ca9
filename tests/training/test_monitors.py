"""What decides about a training looks for the better value, and for one that is defined."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from uniphd.errors import ConfigError
from uniphd.training.callbacks.monitors import MonitorCheck
from uniphd.training.fault_tolerance.best_checkpoint import BestCheckpoint

ALONE = "val/mean/referring_acc"  # undefined where nobody is beside anybody
METRICS = {ALONE: math.nan, "val/mean/pose_AP": 0.2, "val/mean/mIoU": 0.4}


class Plain(LightningModule):
    """Logs what it is given in its validation."""

    def __init__(self, metrics: dict[str, float], plateau: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.metrics = metrics
        self.plateau = plateau

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.metrics)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        if self.plateau is None:
            return optimizer
        scheduler = ReduceLROnPlateau(optimizer, self.plateau["mode"])
        schedule = {"scheduler": scheduler, "monitor": self.plateau["monitor"]}
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def fit(
    folder: Path,
    *callbacks: Callback,
    optimized_metric: str | None = None,
    metrics: dict[str, float] = METRICS,
    plateau: dict[str, Any] | None = None,
    **options: Any,
) -> Trainer:
    settings: dict[str, Any] = {"max_epochs": 2, "num_sanity_val_steps": 0, **options}
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(item, ModelCheckpoint) for item in callbacks),
        callbacks=[MonitorCheck(callbacks, optimized_metric), *callbacks],
        **settings,
    )
    loader = DataLoader(torch.ones(4, 1))  # type: ignore[arg-type]
    trainer.fit(Plain(metrics, plateau), loader, loader)
    return trainer


def best(folder: Path, monitor: str, mode: str = "max") -> BestCheckpoint:
    return BestCheckpoint(dirpath=folder, filename="best", monitor=monitor, mode=mode)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("watcher", [ModelCheckpoint, BestCheckpoint, EarlyStopping])
def test_the_worst_is_not_taken_for_the_best(watcher: Any, mode: str) -> None:
    wrong, right = ("train/loss", ALONE) if mode == "max" else (ALONE, "train/loss")
    MonitorCheck([watcher(monitor=right, mode=mode)])
    with pytest.raises(ConfigError, match=rf"{watcher.__name__} has mode={mode}.*worst {wrong}"):
        MonitorCheck([watcher(monitor=wrong, mode=mode)])


def test_lightnings_default_for_a_metric_is_the_worst() -> None:
    with pytest.raises(ConfigError, match="mode=min, which takes the worst val/mean/pose_AP"):
        MonitorCheck([ModelCheckpoint(monitor="val/mean/pose_AP")])
    MonitorCheck([ModelCheckpoint(monitor="something of the user's own"), Callback()])


@pytest.mark.filterwarnings("ignore")
def test_a_schedule_watches_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ReduceLROnPlateau has mode=min"):
        fit(tmp_path, plateau={"monitor": "val/mean/mIoU", "mode": "min"})
    with pytest.raises(ConfigError, match="which ReduceLROnPlateau follows, is undefined"):
        fit(tmp_path, plateau={"monitor": ALONE, "mode": "max"})
    assert fit(tmp_path, plateau={"monitor": "val/mean/mIoU", "mode": "max"}).global_step == 8


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("watcher", ["best", "stopping", "sweep"])
def test_an_undefined_metric_is_refused_at_the_first_validation(
    tmp_path: Path, watcher: str
) -> None:
    callbacks: dict[str, list[Callback]] = {
        "best": [best(tmp_path, ALONE)],
        "stopping": [EarlyStopping(monitor=ALONE, mode="max")],
        "sweep": [],
    }
    name = {"best": "BestCheckpoint", "stopping": "EarlyStopping", "sweep": "optimized_metric"}
    key = "optimized_metric" if watcher == "sweep" else "monitor"
    sentence = (
        rf"^{ALONE}, which {name[watcher]} follows, is undefined: the validation has nobody to "
        rf"measure it on \(it is of images with two .*\); give {key}=val/mean/mIoU\.$"
    )
    metric = ALONE if watcher == "sweep" else None
    with pytest.raises(ConfigError, match=sentence):
        fit(tmp_path, *callbacks[watcher], optimized_metric=metric)
    assert not (tmp_path / "best.ckpt").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_limit_may_be_why(tmp_path: Path) -> None:
    metrics = {"val/text/pose_AP": math.nan, "val/text/mIoU": 0.5}
    sentence = r"or none among those of trainer\.limit_val_batches=2 .*give monitor=val/text/mIoU"
    with pytest.raises(ConfigError, match=sentence):
        fit(tmp_path, best(tmp_path, "val/text/pose_AP"), metrics=metrics, limit_val_batches=2)


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_followed_may_be_undefined(tmp_path: Path) -> None:
    fit(tmp_path, best(tmp_path, "val/mean/mIoU"), num_sanity_val_steps=1)
    assert (tmp_path / "best.ckpt").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_sanity_check_decides_nothing(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_sanity_val_steps": 1, "limit_train_batches": 0}
    assert fit(tmp_path, best(tmp_path, ALONE), **options).global_step == 0
