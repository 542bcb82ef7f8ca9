"""`metrics.csv`, also of a run that was interrupted."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger

from uniphd.training.loggers.interface import LoggedRow, ResumableLogger
from uniphd.training.loggers.metrics_file import MetricsFile


class CsvLog(CSVLogger, ResumableLogger):
    """Lightning's logger, whose file a resumed run continues.

    A resumed run drops the rows from after its checkpoint, whose steps are trained again, and keeps
    the earlier ones. It copies them if it writes to another folder.

    Args:
        folder: of the file.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder, name="", version="")
        self._file = MetricsFile(self.path)
        self._rows = 0  # in the file
        self._known: set[tuple[int | None, str]] = set()  # of the steps around the checkpoint

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.log_dir) / "metrics.csv"

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """What Lightning's methods write through."""
        return self._file

    def finalize(self, status: str) -> None:
        """Write what is not in the file yet."""
        self.save()

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append one row, without the values that an interrupted validation has logged already."""
        known = {name for name in metrics if name != "epoch" and (step, name) in self._known}
        values = {name: value for name, value in metrics.items() if name not in known}
        if not known or values.keys() - {"epoch"}:
            super().log_metrics(values, step)
            self._rows += 1

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `run.json` has them."""

    def state_dict(self) -> dict[str, Any]:
        """The file and how many rows it has."""
        return {"path": str(self.path.resolve()), "rows": self._rows}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], step: int, rows: Sequence[LoggedRow]
    ) -> None:
        """Write the earlier rows again; `rows` may have been read from this very file."""
        if not rows:
            return
        for row in rows:
            self.log_metrics(row.values, row.step)
        self.save()
        last = [row for row in rows if row.step >= step - 1]
        self._known = {(row.step, name) for row in last for name in row.values}


def rows_before(step: int, state_dict: Mapping[str, Any], checkpoint: Path) -> list[LoggedRow]:
    """The rows that an interrupted run had logged when its checkpoint was written.

    Args:
        step: optimizer steps before the checkpoint.
        state_dict: the state of the `CsvLog` in the checkpoint.
        checkpoint: the checkpoint's file.

    Returns:
        The rows of earlier steps, and all rows that the file had by then: a validation between two
        optimizer steps is logged at the next step. Empty if the file is gone.
    """
    path = _of_the_run(Path(state_dict.get("path", "csv/metrics.csv")), checkpoint)
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [_parse(row) for row in csv.DictReader(file)]
    count = state_dict.get("rows", 0)
    return [row for i, row in enumerate(rows) if row and (i < count or row.step < step)]


def _of_the_run(written: Path, checkpoint: Path) -> Path:
    """Find a run's file although its folder may have been moved.

    Args:
        written: the file's path when the checkpoint was saved.
        checkpoint: a file in the run's folder, or in a folder inside of it.
    """
    inside = Path(*written.parts[-2:])  # csv/metrics.csv
    folder = checkpoint.resolve().parent
    near = (folder.parent / inside, folder / inside)
    return next((path for path in near if path.is_file()), written)


def _parse(row: Mapping[str, str | None]) -> LoggedRow | None:
    """A row without its empty fields; None for one that was cut off when the process died."""
    filled = {name: value for name, value in row.items() if value and name != "step"}
    try:
        values = {name: _number(value) for name, value in filled.items()}
        return LoggedRow(int(row["step"] or ""), values)
    except (KeyError, ValueError):
        return None


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)
