from __future__ import annotations

import json
import math
from pathlib import Path

from rich.console import Console

from uniphd.metrics.report import metrics_table, write_report

METRICS = {
    "text": {"pose_AP": 0.6674, "mask_AP": math.nan},
    "point": {"pose_AP": 0.735, "mask_AP": 0.689},
}


def test_table_is_in_percent_with_a_dash_for_undefined() -> None:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(metrics_table(METRICS))
    rows = [line.replace("│", " ").split() for line in capture.get().splitlines()]
    assert ["pose_AP", "66.7", "73.5"] in rows
    assert ["mask_AP", "–", "68.9"] in rows


def test_files(tmp_path: Path) -> None:
    results = {"text": {"keypoints": [{"image_id": 1, "score": 0.5}], "bbox": []}}
    write_report(tmp_path / "new" / "folder", METRICS, results)
    folder = tmp_path / "new" / "folder"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["metrics.json", "text_bbox.json", "text_keypoints.json"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["text"] == {"pose_AP": 0.6674, "mask_AP": None}
    assert json.loads((folder / "text_keypoints.json").read_text()) == results["text"]["keypoints"]
