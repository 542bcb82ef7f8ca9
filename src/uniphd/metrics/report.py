"""Evaluation results for people (a table) and for programs (JSON files)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from uniphd.metrics.coco import CocoResult
from uniphd.training.fault_tolerance.files import replacing


def metrics_table(
    metrics: Mapping[str, Mapping[str, float]],
    spreads: Mapping[str, Mapping[str, float]] | None = None,
) -> Table:
    """One row per metric, one column per prompt kind, in percent with one decimal.

    Args:
        metrics: fractions by prompt kind and metric name; NaN where undefined.
        spreads: their standard deviations, for the columns that have some.
    """
    table = Table("metric (%)")
    for kind in metrics:
        table.add_column(kind, justify="right")
    names = dict.fromkeys(name for values in metrics.values() for name in values)
    for name in names:
        cells = (_cell(name, values, (spreads or {}).get(kind)) for kind, values in metrics.items())
        table.add_row(name, *cells)
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
    write_metrics(folder, metrics)
    for kind, tasks in coco_results.items():
        for task, entries in tasks.items():
            write_results(folder / f"{kind}_{task}.json", entries)


def write_metrics(folder: Path, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Write `metrics.json`; see `write_report`."""
    defined = {
        kind: {name: None if math.isnan(value) else value for name, value in values.items()}
        for kind, values in metrics.items()
    }
    with replacing(folder / "metrics.json") as file:
        file.write(json.dumps(defined, indent=2).encode() + b"\n")


def write_results(path: Path, entries: Iterable[CocoResult]) -> None:
    """Write a COCO results file, entry by entry.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    with replacing(path) as file:
        file.write(b"[")
        for number, entry in enumerate(entries):
            file.write((", " if number else "").encode() + json.dumps(entry).encode())
        file.write(b"]")


def _cell(name: str, values: Mapping[str, float], spread: Mapping[str, float] | None) -> str:
    """A metric, and where it has one its spread."""
    value = values.get(name, math.nan)
    if spread is None or math.isnan(value):
        return _percent(value)
    return f"{_percent(value)} ± {_percent(spread[name])}"


def _percent(fraction: float) -> str:
    return "–" if math.isnan(fraction) else f"{100 * fraction:.1f}"
