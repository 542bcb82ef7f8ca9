"""The best checkpoint of a run that goes on in a moved or in another folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from uniphd.training.fault_tolerance.best_checkpoint import BestCheckpoint
from uniphd.training.fault_tolerance.last_checkpoint import LastCheckpoint


class Scores(LightningModule):
    """Validates after every step; the weight is the number of the step."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.scores = scores

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -self.weight

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("score", self.scores[int(self.weight) - 1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=1.0)


def fit(
    folder: Path, *scores: float, resume: Path | None = None, mode: str = "max"
) -> BestCheckpoint:
    best = BestCheckpoint(
        folder, "best", "score", mode=mode, save_on_train_epoch_end=False,
        enable_version_counter=False,
    )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", max_steps=len(scores), val_check_interval=1, num_sanity_val_steps=0,
        logger=False, enable_progress_bar=False, enable_model_summary=False,
        check_val_every_n_epoch=None, callbacks=[best, LastCheckpoint(folder, every_n_steps=1)],
    )  # fmt: skip
    loader = DataLoader(torch.zeros(1))  # type: ignore[arg-type]
    path = None if resume is None else resume / "last.ckpt"
    trainer.fit(Scores(*scores), loader, loader, ckpt_path=path, weights_only=True)
    return best


def weight(folder: Path) -> float:
    stored = torch.load(folder / "best.ckpt", weights_only=True)
    return float(stored["state_dict"]["weight"])


pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory")


@pytest.mark.parametrize("how", ["same", "moved", "another"])
def test_a_worse_state_does_not_become_the_best(tmp_path: Path, how: str) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fit(old, 0.1, 0.9)
    resume = {"same": old, "moved": new, "another": old}[how]
    if how == "moved":
        old.rename(new)
    folder = old if how == "same" else new
    best = fit(folder, 0.1, 0.9, 0.5, resume=resume)
    assert weight(folder) == 2
    assert best.best_model_score == pytest.approx(0.9)
    assert Path(best.best_model_path) == folder / "best.ckpt"
    assert weight(resume) == 2
    fit(folder, 0.1, 0.9, 0.5, 0.95, resume=folder)
    assert weight(folder) == 4


def test_a_best_that_is_lost_is_forgotten_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path / "old", 0.1, 0.9)
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "old" / "last.ckpt", tmp_path / "alone")
    with caplog.at_level(logging.WARNING):
        fit(tmp_path / "new", 0.1, 0.9, 0.5, resume=tmp_path / "alone")
    assert "best.ckpt is not in" in caplog.text
    assert weight(tmp_path / "new") == 3


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_a_best_by_another_metric_is_forgotten_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path, 0.1, 0.9)
    assert "is chosen anew" not in caplog.text
    best = fit(tmp_path, 0.1, 0.9, 0.5, resume=tmp_path, mode="min")
    assert "so far was not chosen by score (min); best.ckpt is chosen anew" in caplog.text
    assert best.best_model_score == pytest.approx(0.5)


def test_older_checkpoints_have_its_state() -> None:
    assert BestCheckpoint(monitor="score").state_key.startswith("ModelCheckpoint{")
