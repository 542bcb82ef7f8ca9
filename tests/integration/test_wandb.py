"""Logging to Weights & Biases, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import wandb

from tests.integration.test_train_and_evaluate import run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_an_offline_run_holds_losses_and_metrics(tmp_path: Path, refhuman_folder: Path) -> None:
    offline = ["logger=wandb", "logger.wandb.offline=true", "logger.wandb.id=testrun"]
    run(tmp_path, refhuman_folder, 2, *offline)
    wandb.teardown()
    (file,) = (tmp_path / "wandb").glob("offline-run-*-testrun/run-testrun.wandb")
    content = file.read_bytes()
    for key in (b"train/loss", b"train/final/class", b"val/text/pose_AP", b"val/mean/mIoU"):
        assert key in content
    assert b"val/nobody/pose_AP" not in content
