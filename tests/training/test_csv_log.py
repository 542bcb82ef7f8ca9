"""metrics.csv of runs that are interrupted and resumed: every step once, none missing."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from uniphd.training.loggers.csv_log import CsvLog
from uniphd.training.loggers.resuming import LOGS_KEY, load_logger_states


def log(logger: CsvLog, steps: Iterable[int], run: int) -> None:
    """As training does: a loss per step, a metric after every second, which run it was."""
    for step in steps:
        logger.log_metrics({"train/loss": torch.tensor(1 / (1 + step)), "run": run}, step)
        if step % 2:
            logger.log_metrics({"val/mean/mIoU": 0.1 * step, "epoch": 0}, step)
        logger.save()


def checkpoint(logger: CsvLog, step: int) -> dict[str, Any]:
    return {"global_step": step, LOGS_KEY: {"CsvLog": logger.state_dict()}}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def resume(logger: CsvLog, stored: dict[str, Any], folder: Path) -> None:
    load_logger_states([logger], stored, folder / "checkpoints" / "last.ckpt")


def interrupted(folder: Path) -> dict[str, Any]:
    """A checkpoint after 4 steps of a run that went on for 7."""
    logger = CsvLog(folder / "csv")
    log(logger, range(4), run=1)
    stored = checkpoint(logger, 4)
    log(logger, range(4, 7), run=1)
    return stored


@pytest.mark.parametrize("name", ["same", "another"])
def test_steps_after_the_checkpoint_are_those_of_the_resumed_run(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    stored = interrupted(tmp_path / "same")
    before = rows(tmp_path / "same")
    logger = CsvLog(folder / "csv")
    resume(logger, stored, tmp_path / "same")
    assert rows(folder) == before[:6]  # at once: a second interruption loses nothing
    log(logger, range(4, 10), run=2)
    losses = [(int(row["step"]), row["run"]) for row in rows(folder) if "train/loss" in row]
    assert losses == [(step, "1" if step < 4 else "2") for step in range(10)]
    assert [row["step"] for row in rows(folder) if "val/mean/mIoU" in row] == list("13579")


def test_a_run_can_be_resumed_again_and_again(tmp_path: Path) -> None:
    stored = interrupted(tmp_path)
    for number in (2, 3):
        logger = CsvLog(tmp_path / "csv")
        resume(logger, stored, tmp_path)
        log(logger, range(2 * number, 2 * number + 2), number)
        stored = checkpoint(logger, 2 * number + 2)
        log(logger, range(2 * number + 2, 20), number)
    logger = CsvLog(tmp_path / "csv")
    resume(logger, stored, tmp_path)
    assert [row["run"] for row in rows(tmp_path) if "run" in row] == list("11112233")


def test_a_validation_between_two_optimizer_steps_is_kept(tmp_path: Path) -> None:
    """With accumulated gradients: it is logged at the step that is not complete yet."""
    logger = CsvLog(tmp_path / "csv")
    log(logger, range(2), run=1)
    logger.log_metrics({"val/mean/mIoU": 0.5}, 2)
    logger.save()
    stored = checkpoint(logger, 2)
    log(logger, range(2, 4), run=1)
    again = CsvLog(tmp_path / "csv")
    resume(again, stored, tmp_path)
    log(again, [2], run=2)
    found = [(row["step"], row.get("run"), row.get("val/mean/mIoU")) for row in rows(tmp_path)]
    assert found[-2:] == [("2", None, "0.5"), ("2", "2", None)]


def test_a_validation_that_begins_anew_is_logged_once(tmp_path: Path) -> None:
    """Its checkpoint was written before it, and the process died before the one after it."""
    logger = CsvLog(tmp_path / "csv")
    logger.log_metrics({"train/loss": 1.0, "epoch": 0}, 1)
    stored = checkpoint(logger, 2)
    logger.log_metrics({"val/mean/mIoU": 0.5, "epoch": 0}, 1)
    logger.save()
    again = CsvLog(tmp_path / "csv")
    resume(again, stored, tmp_path)
    again.log_metrics({"val/mean/mIoU": 0.5, "epoch": 0}, 1)
    again.log_metrics({"train/loss": 0.5, "epoch": 0}, 2)
    again.save()
    found = [(row["step"], row.get("train/loss"), row["epoch"]) for row in rows(tmp_path)]
    assert found == [("1", "1.0", "0"), ("1", None, "0"), ("2", "0.5", "0")]


def test_a_line_cut_off_by_the_interruption_is_left_out(tmp_path: Path) -> None:
    stored = interrupted(tmp_path)
    path = tmp_path / "csv" / "metrics.csv"
    path.write_text(path.read_text() + "0,1")
    logger = CsvLog(tmp_path / "csv")
    resume(logger, stored, tmp_path)
    assert {row["step"] for row in rows(tmp_path)} == set("0123")


def test_without_the_file_the_log_begins_at_the_checkpoint(tmp_path: Path) -> None:
    stored = interrupted(tmp_path)
    (tmp_path / "csv" / "metrics.csv").unlink()
    logger = CsvLog(tmp_path / "csv")
    resume(logger, stored, tmp_path)
    log(logger, [4], run=2)
    assert [row["step"] for row in rows(tmp_path)] == ["4"]


def test_the_rows_of_a_run_move_with_its_folder(tmp_path: Path) -> None:
    """Also where another run is at the old place by now."""
    stored = interrupted(tmp_path / "old")
    before = rows(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    log(CsvLog(tmp_path / "old" / "csv"), range(3), run=9)
    resume(CsvLog(tmp_path / "new" / "csv"), stored, tmp_path / "new")
    assert rows(tmp_path / "new") == before[:6]


def test_the_file_is_there_and_whole_while_it_is_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever a kill comes: at the resumption, and where there are new columns."""
    stored = interrupted(tmp_path)
    before = rows(tmp_path)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("uniphd.training.fault_tolerance.files.os.fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            resume(CsvLog(tmp_path / "csv"), stored, tmp_path)
        assert rows(tmp_path) == before
    logger = CsvLog(tmp_path / "csv")
    resume(logger, stored, tmp_path)
    logger.log_metrics({"new": 1.0}, 4)
    with monkeypatch.context() as patch:
        patch.setattr("uniphd.training.fault_tolerance.files.os.fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            logger.save()
    assert rows(tmp_path) == before[:6]
    logger.save()
    assert rows(tmp_path)[6] == {"step": "4", "new": "1.0"}
