"""Where a run comes from, in its folder and its checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

import uniphd
from uniphd.errors import TrainingError
from uniphd.training.callbacks.run_record import RUN_KEY, RunRecord, describe_run, git_state


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new repository with one commit of one file."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").write_text("old")
    author = ["-c", "user.name=n", "-c", "user.email=e@e.e"]
    for arguments in (["init", "-q"], ["add", "file"], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    return tmp_path


def test_a_clone_has_a_commit_and_may_be_changed(clone: Path) -> None:
    state = git_state(clone)
    assert state is not None
    head = (clone / ".git" / "HEAD").read_text().removeprefix("ref: ").strip()
    assert state == {"commit": (clone / ".git" / head).read_text().strip(), "dirty": False}
    (clone / "file").write_text("new")
    assert git_state(clone) == {**state, "dirty": True}
    (clone / "file").write_text("old")
    (clone / "module.py").write_text("a new file changes what runs, too")
    assert git_state(clone) == {**state, "dirty": True}


def test_outside_a_clone_there_is_no_commit(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = clone / "site-packages"
    inside.mkdir()
    assert git_state(inside) is None  # an installation within somebody else's repository
    assert git_state(clone / "missing") is None
    monkeypatch.setenv("PATH", str(inside))  # no git
    assert git_state(clone) is None


def test_a_description_names_versions_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["uniphd-train", "data.size=[96, 96]"])
    record = describe_run({"seed": 3})
    assert record["command"] == "uniphd-train 'data.size=[96, 96]'"
    assert record["config"] == {"seed": 3}
    assert record["versions"]["uniphd"] == uniphd.__version__
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["python"].startswith(sys.version.split()[0])
    assert {"lightning", "timm", "transformers"} < record["versions"].keys()
    assert record["date"].endswith("+00:00")


class Line(LightningModule):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return (self.weight * batch[0]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_run_and_its_checkpoint_hold_the_same_record(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "run", {"optim": {"lr": 0.1}, "rules": [1, None]})
    trainer = Trainer(
        accelerator="cpu", max_steps=1, callbacks=[record], logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(Line(), DataLoader(TensorDataset(torch.ones(1, 1))))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    written = json.loads((tmp_path / "run" / "run.json").read_text())
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)[RUN_KEY]
    assert written.pop("end") == "finished"
    assert stored == written
    assert written["config"] == {"optim": {"lr": 0.1}, "rules": [1, None]}
    assert written["devices"] == {"names": [written["versions"]["processor"]], "processes": 1}


def test_the_record_says_how_a_run_ended(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    seen = []

    class Stopped(Line):
        def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
            seen.append(json.loads(path.read_text())["end"])
            raise TrainingError("Step 0 is not finite.")

    trainer = Trainer(
        accelerator="cpu", max_steps=1, callbacks=[RunRecord(tmp_path, {})], logger=False,
        enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(TrainingError):
        trainer.fit(Stopped(), DataLoader(TensorDataset(torch.ones(1, 1))))
    assert seen == [None]
    assert json.loads(path.read_text())["end"] == "TrainingError: Step 0 is not finite."


def test_a_resumed_run_records_what_counts(tmp_path: Path) -> None:
    asked = {"optim": {"lr": 5e-5, "param_groups": [{"lr": 1.0}]}, "init_from": None}
    record = RunRecord(tmp_path, asked)
    record.keep({"optim.lr": 1e-4, "optim.param_groups.0.lr": 2.0, "init_from": "a.ckpt"})
    counts = {"optim": {"lr": 1e-4, "param_groups": [{"lr": 2.0}]}, "init_from": "a.ckpt"}
    assert record.record["config"] == counts
