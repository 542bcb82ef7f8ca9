"""Evaluation results for people (a table) and for programs (JSON files)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from uniphd.metrics.coco import CocoResult
from uniphd.training.fault_tolerance.files import replacing


def metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> Table:
    """One row per metric, one column per prompt kind, in percent with one decimal.

    Args:
        metrics: fractions by prompt kind and metric name; NaN where undefined.
    """
    table = Table("metric (%)")
    for kind in metrics:
        table.add_column(kind, justify="right")
    names = dict.fromkeys(name for values in metrics.values() for name in values)
    for name in names:
        table.add_row(name, *(_percent(values.get(name, math.nan)) for values in metrics.values()))
    return table


def write_report(
    folder: Path,
    metrics: Mapping[str, Mapping[str, float]],
    coco_results: Mapping[str, Mapping[str, Sequence[CocoResult]]],
) -> None:
    """Write `metrics.json` and one COCO results file per prompt kind and task.

    Args:
        folder: where to; made if it is missing.
        metrics: fractions by prompt kind and metric name; NaN becomes null.
        coco_results: by prompt kind and task, written to `{kind}_{task}.json`.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    defined = {
        kind: {name: None if math.isnan(value) else value for name, value in values.items()}
        for kind, values in metrics.items()
    }
    texts = {"metrics": json.dumps(defined, indent=2) + "\n"} | {
        f"{kind}_{task}": json.dumps(list(entries))
        for kind, tasks in coco_results.items()
        for task, entries in tasks.items()
    }
    for name, text in texts.items():
        with replacing(folder / f"{name}.json") as file:
            file.write(text.encode())


def _percent(fraction: float) -> str:
    return "–" if math.isnan(fraction) else f"{100 * fraction:.1f}"
