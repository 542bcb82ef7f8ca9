"""The file `metrics.csv`: rows are appended; a new column replaces the file atomically."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from torch import Tensor

from uniphd.training.fault_tolerance.files import replacing


class MetricsFile:
    """Replaces the writer of Lightning's CSVLogger.

    Lightning's writer truncates the file before it writes new columns, and deletes an existing one;
    a kill in between loses all rows.

    Args:
        path: the file. An existing one stays until the first `save`, which replaces it.

    Attributes:
        metrics: rows that are not in the file yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics: list[dict[str, Any]] = []
        self._names: list[str] = []  # of the columns; empty before the first row is written

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        """Remember one row."""
        values = {
            name: value.item() if isinstance(value, Tensor) else value
            for name, value in metrics.items()
        }
        self.metrics.append({**values, "step": step})

    def save(self) -> None:
        """Write the rows that are not in the file yet.

        Raises:
            StorageError: the disk is full, or the folder cannot be written to.
        """
        if not self.metrics:
            return
        names = sorted({*self._names, *(name for row in self.metrics for name in row)})
        if names == self._names and self.path.is_file():
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, names).writerows(self.metrics)
        else:
            self._replace(names, [*self._written(), *self.metrics])
        self.metrics = []

    def _written(self) -> list[dict[str, Any]]:
        """The rows of this run that are in the file."""
        if not (self._names and self.path.is_file()):
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _replace(self, names: list[str], rows: Iterable[Mapping[str, Any]]) -> None:
        with replacing(self.path) as file:
            text = TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
            writer = csv.DictWriter(text, names)
            writer.writeheader()
            writer.writerows(rows)
            text.detach()  # the file is closed by whom it belongs to
        self._names = names
