"""Where a model is from: the record of its training, and how well it did."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uniphd.analysis.run_log import RunError, read_metrics
from uniphd.checkpoints.folder import RUN_KEY
from uniphd.checkpoints.pickled import read_pickle_safely
from uniphd.checkpoints.plain import read_json
from uniphd.errors import ConfigError
from uniphd.prompts import KINDS

_CHECKPOINT = ".ckpt"
_VALIDATION = "val/"


@dataclass(frozen=True)
class Provenance:
    """What is known of a model.

    Attributes:
        record: of `run.json`; None where there is none.
        metrics: fractions by prompt kind and name.
        measured: what the metrics are of, as the end of a sentence.
    """

    record: Mapping[str, Any] | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    measured: str = ""


def find_provenance(
    model: str | os.PathLike[str],
    run: str | os.PathLike[str] | None = None,
    metrics: str | os.PathLike[str] | None = None,
) -> Provenance:
    """What a checkpoint holds, its run's folder says, or the user names.

    Args:
        model: as for `save_pretrained`.
        run: folder with `run.json`.
        metrics: `metrics.json` of `uniphd-eval`.

    Raises:
        ConfigError: `run` or `metrics` is not what it should be.
    """
    record = None if run is None else _read_object(Path(run, "run.json"), "of a training's folder")
    measured: dict[str, dict[str, float]] = {}
    of = ""
    path = Path(model)
    if path.suffix == _CHECKPOINT and path.is_file():
        content = read_pickle_safely(path)
        if record is None and isinstance(content.get(RUN_KEY), Mapping):
            record = content[RUN_KEY]
        measured = _validation(path.absolute().parents[1], content.get("global_step"))
        of = "the validation of the training at this checkpoint"
    if metrics is not None:
        measured = _evaluation(Path(metrics))
        of = "an evaluation with uniphd-eval"
    return Provenance(record, measured, of if measured else "")


def _validation(run: Path, steps: object) -> dict[str, dict[str, float]]:
    """Metrics that a run logged after so many steps; none where it did not validate then."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    try:
        logged = read_metrics(run / "csv" / "metrics.csv")
    except RunError:
        return {}
    for name, points in logged.items():
        kind, _, metric = name.removeprefix(_VALIDATION).partition("/")
        values = [value for step, value in points if step + 1 == steps]
        if name.startswith(_VALIDATION) and kind in KINDS and values:
            found[kind][metric] = values[-1]
    return dict(found)


def _evaluation(path: Path) -> dict[str, dict[str, float]]:
    content = _read_object(path, "that uniphd-eval writes")
    try:
        return {
            str(kind): {
                str(name): float("nan") if value is None else float(value)
                for name, value in values.items()
            }
            for kind, values in content.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not the metrics.json that uniphd-eval writes.") from error


def _read_object(path: Path, what: str) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read ({reason}); give the file {what}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is a {type(content).__name__}; give the file {what}.")
    return content
