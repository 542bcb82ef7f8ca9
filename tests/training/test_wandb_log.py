"""What W&B is sent, by a stand-in for its run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from uniphd.training.loggers.interface import LoggedRow
from uniphd.training.loggers.wandb_log import WandbLog


class Run:
    """Of W&B: what is logged, and how it ended."""

    id, offline, starting_step = "abc", True, 0

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.exit_code: int | None = None

    def log(self, values: Mapping[str, Any], step: int) -> None:
        self.rows.append((step, dict(values)))

    def define_metric(self, *names: str, **options: Any) -> None:
        """The axis."""

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """What `wandb.init` gives."""
    run = Run()
    monkeypatch.setattr("wandb.init", lambda id, **options: run)
    return run


def logger_in(folder: Path, id: str = "abc") -> WandbLog:
    folder.mkdir(exist_ok=True)
    return WandbLog("project", folder, id=id)


def send(folder: Path, steps: Iterable[int]) -> None:
    """An earlier start of the run, which was killed after these steps."""
    logger = logger_in(folder)
    for step in steps:
        logger.log_metrics({"a": 1}, step)
        logger.complete(step + 1)
    logger.experiment.rows.clear()


def test_a_step_is_sent_as_a_whole(run: Run, tmp_path: Path) -> None:
    logger = logger_in(tmp_path)
    for step in range(3):
        logger.log_metrics({"lr": 0.1}, step)
        logger.log_metrics({"train/loss": 1.0 + step}, step)
    logger.log_metrics({"val/mean/mIoU": 0.5}, 2)
    logger.finalize("success")
    assert [step for step, _ in run.rows] == [0, 1, 2]
    assert run.rows[1][1] == {"lr": 0.1, "train/loss": 2.0, "trainer/global_step": 1}
    assert run.rows[2][1]["val/mean/mIoU"] == 0.5
    assert run.exit_code == 0


def test_a_step_that_failed_is_left_to_the_resumed_run(run: Run, tmp_path: Path) -> None:
    logger = logger_in(tmp_path)
    for step in range(3):
        logger.complete(step)
        logger.log_metrics({"lr": 0.1}, step)
    assert [step for step, _ in run.rows] == [0, 1]
    logger.finalize("failed")
    assert [step for step, _ in run.rows] == [0, 1]
    assert run.exit_code == 1


def test_a_validation_that_begins_anew_completes_its_step(run: Run, tmp_path: Path) -> None:
    """The checkpoint was written before it; then the process was killed."""
    send(tmp_path, range(3))
    logger = logger_in(tmp_path)
    rows = [LoggedRow(step, {"train/loss": 1.0}) for step in range(4)]
    logger.load_state_dict({"id": "abc", "folders": [str(tmp_path)]}, 4, rows)
    logger.log_metrics({"val/mean/mIoU": 0.5}, 3)
    logger.complete(4)
    axis = {"trainer/global_step": 3}
    assert run.rows == [(3, {"train/loss": 1.0, "val/mean/mIoU": 0.5, **axis})]


@pytest.mark.parametrize(
    ("known", "sent"), [(range(7), [7, 8]), (range(2), range(2, 9)), ([], range(9))]
)
def test_a_resumed_run_sends_what_is_missing(
    run: Run, tmp_path: Path, known: Iterable[int], sent: Iterable[int]
) -> None:
    """Whether the process went on after the checkpoint, or died before its file was written."""
    send(tmp_path / "before", known)
    logger = logger_in(tmp_path / "after")
    rows = [LoggedRow(step, {"train/loss": float(step)}) for step in range(4)]
    position = {"id": "abc", "folders": [str(tmp_path / "before")]}
    logger.load_state_dict(position, 4, rows)
    for step in range(4, 9):
        logger.log_metrics({"train/loss": float(step)}, step)
    logger.finalize("success")
    assert [(step, row["train/loss"]) for step, row in run.rows] == [(n, n) for n in sent]
    assert logger.state_dict()["folders"] == [str(tmp_path / "before"), str(tmp_path / "after")]


def test_an_online_run_knows_its_history(run: Run, tmp_path: Path) -> None:
    run.offline, run.starting_step = False, 3
    logger = logger_in(tmp_path)
    rows = [LoggedRow(step, {"a": 1}) for step in range(4)]
    logger.load_state_dict({"id": "abc"}, 4, rows)
    logger.finalize("success")
    assert [step for step, _ in run.rows] == [3]


def test_another_id_is_another_run_with_the_history_so_far(run: Run, tmp_path: Path) -> None:
    send(tmp_path, range(7))
    run.id = "branch"
    logger = logger_in(tmp_path, "branch")
    rows = [LoggedRow(step, {"a": 1}) for step in range(4)]
    position = {"id": "abc", "folders": [str(tmp_path)]}
    logger.load_state_dict(position, 4, rows)
    logger.finalize("success")
    assert [step for step, _ in run.rows] == [0, 1, 2, 3]
    assert logger.state_dict() == {"id": "branch", "folders": [str(tmp_path)]}
