"""The numbers of a run, read back from its CSV log."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from uniphd.errors import UniPHDError


class RunError(UniPHDError):
    """A folder is no run, or not one that can be compared."""


def read_metrics(path: Path | str) -> dict[str, list[tuple[int, float]]]:
    """Points (step, value) by the name of what was logged, in the order of the file.

    Args:
        path: `csv/metrics.csv` of a run's folder.

    Raises:
        RunError: the file is missing or damaged, or has no column `step`.
    """
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if "step" not in (rows.fieldnames or ()):
                raise RunError(f"{path} has no column 'step'; name the csv/metrics.csv of a run.")
            for row in rows:
                step = int(row.pop("step"))
                for name, value in row.items():
                    if name != "epoch" and value:
                        points[name].append((step, float(value)))
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror}); train with logger=csv or logger=wandb."
        ) from error
    except (ValueError, TypeError, csv.Error) as error:
        raise RunError(f"{path} is damaged ({error}); leave the run out.") from error
    return dict(points)
