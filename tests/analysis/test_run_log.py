"""A run's CSV log read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniphd.analysis.run_log import RunError, read_metrics


def test_points_by_name(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss,val/mIoU\n0,9,2.5,\n0,19,1.5,\n0,19,,0.25\n")
    assert read_metrics(path) == {
        "train/loss": [(9, 2.5), (19, 1.5)],
        "val/mIoU": [(19, 0.25)],
    }


def test_what_is_no_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none\.csv cannot be read \(No such file"):
        read_metrics(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match=r"other\.csv has no column 'step'"):
        read_metrics(tmp_path / "other.csv")


@pytest.mark.parametrize("row", ["x,0.5\n", "1,half\n", "1,0.5,3\n", "\n\n1\0,2\n"])
def test_a_damaged_log_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(f"step,train/loss\n{row}")
    with pytest.raises(RunError, match=r"metrics\.csv is damaged"):
        read_metrics(path)
