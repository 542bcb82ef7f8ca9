"""What W&B is sent, by a stand-in for its run, and reading its files, made by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from uniphd.training.loggers.interface import LoggedRow
from uniphd.training.loggers.wandb_files import last_step, read_records
from uniphd.training.loggers.wandb_log import WandbLog

BLOCK = 32 * 1024


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
    return WandbLog("project", folder, id=id)


def store(folder: Path, records: Iterable[Record], lost: int = 0) -> Path:
    """A run's file, without the last bytes."""
    data = bytearray(b":W&B\xbe\xe1\x00")
    for record in records:
        content, part = record.SerializeToString(), 0
        while part == 0 or content:
            room = BLOCK - len(data) % BLOCK
            if room < 7:
                data += bytes(room)
                room = BLOCK
            piece, content = content[: room - 7], content[room - 7 :]
            kind = (4 if part else 1) if not content else (3 if part else 2)
            data += struct.pack("<IHB", 0, len(piece), kind) + piece
            part += 1
    path = folder / "wandb" / "offline-run-20260101_000000-abc" / "run-abc.wandb"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(data[: len(data) - lost]))
    return path


def history(steps: Iterable[int], size: int = 0) -> list[Record]:
    records = []
    for step in steps:
        record = Record()
        record.history.step.num = step
        record.history.item.add(key="a", value_json="1" * (size + step))
        records.append(record)
    return records


@pytest.mark.parametrize("size", [10, 1000, BLOCK - 14, 3 * BLOCK])
def test_records_are_read_over_the_ends_of_blocks(tmp_path: Path, size: int) -> None:
    records = history(range(100 if size < BLOCK else 5), size)
    assert list(read_records(store(tmp_path, records))) == records
    assert last_step(tmp_path, "abc") == len(records) - 1
    assert last_step(tmp_path, "another") is None


@pytest.mark.parametrize("lost", [1, 12, 1005])
def test_what_was_cut_off_is_left_out(tmp_path: Path, lost: int) -> None:
    store(tmp_path, history(range(3), 1000), lost)
    assert last_step(tmp_path, "abc") == 1


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
    store(tmp_path, history(range(3)))
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
    store(tmp_path / "before", history(known))
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
    store(tmp_path, history(range(7)))
    run.id = "branch"
    logger = logger_in(tmp_path, "branch")
    rows = [LoggedRow(step, {"a": 1}) for step in range(4)]
    position = {"id": "abc", "folders": [str(tmp_path)]}
    logger.load_state_dict(position, 4, rows)
    logger.finalize("success")
    assert [step for step, _ in run.rows] == [0, 1, 2, 3]
    assert logger.state_dict() == {"id": "branch", "folders": [str(tmp_path)]}
