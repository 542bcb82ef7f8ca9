"""A run's CSV log read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniphd.errors import UniPHDError
from uniphd.visualization.run_log import read_metrics


def test_points_by_name(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss,val/mIoU\n0,9,2.5,\n0,19,1.5,\n0,19,,0.25\n")
    assert read_metrics(path) == {
        "train/loss": [(9, 2.5), (19, 1.5)],
        "val/mIoU": [(19, 0.25)],
    }


def test_what_is_no_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(UniPHDError, match=r"none\.csv does not exist"):
        read_metrics(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UniPHDError, match=r"other\.csv has no column 'step'"):
        read_metrics(tmp_path / "other.csv")
