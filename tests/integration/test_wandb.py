"""Logging to Weights & Biases, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import wandb

from tests.integration.test_train_and_evaluate import run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_an_offline_run_holds_losses_and_metrics(tmp_path: Path, refhuman_folder: Path) -> None:
    """Two trainings in one process, as in a sweep, are two runs."""
    for name in ("testrun", "another"):
        offline = ["logger=wandb", "logger.wandb.offline=true", f"logger.wandb.id={name}"]
        run(tmp_path / name, refhuman_folder, 2, *offline)
    wandb.teardown()
    for name in ("testrun", "another"):
        (file,) = (tmp_path / name / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb")
        content = file.read_bytes()
        for key in (b"train/loss", b"train/final/class", b"val/text/pose_AP", b"val/mean/mIoU"):
            assert key in content
        assert b"val/nobody/pose_AP" not in content
