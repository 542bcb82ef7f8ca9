"""The numbers of a finished run, read back from its CSV log."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from uniphd.errors import UniPHDError


def read_metrics(path: Path | str) -> dict[str, list[tuple[int, float]]]:
    """Points (step, value) by the name of what was logged, in the order of the file.

    Args:
        path: `csv/metrics.csv` of a run's folder.

    Raises:
        UniPHDError: the file is missing, or has no column `step`.
    """
    path = Path(path)
    if not path.is_file():
        raise UniPHDError(f"{path} does not exist; name the csv/metrics.csv of a finished run.")
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if "step" not in (rows.fieldnames or ()):
            raise UniPHDError(f"{path} has no column 'step'; name the csv/metrics.csv of a run.")
        for row in rows:
            step = int(row.pop("step"))
            for name, value in row.items():
                if name != "epoch" and value:
                    points[name].append((step, float(value)))
    return dict(points)
