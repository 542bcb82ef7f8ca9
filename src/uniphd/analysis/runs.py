"""Reading what `uniphd-train` left in a run's folder: its choices and its validations."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from uniphd.analysis.run_log import RunError, read_metrics
from uniphd.metrics.direction import better

_CONFIG = ".hydra/config.yaml"
_METRICS = "csv/metrics.csv"
_NO_DEBUG = ("none", "profiler")  # choices of the group debug that change no number
_FINISHED = "finished"
_LONGEST = 40  # characters of a setting that is a dictionary


@dataclass(frozen=True)
class Validation:
    """One validation of a run.

    Attributes:
        step: as in `metrics.csv`; steps count from 0.
        metrics: fractions by "<prompt kind>/<metric>", NaN where undefined.
    """

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it is.
        config: its configuration, with interpolations.
        choices: the file chosen in every configuration group.
        overrides: keys that its command line gave; of groups, the group's name.
        validations: by ascending step, at least one.
        end: "finished" or what ended it, as `run.json` says; "" of a run that was killed or still
            runs; None where nothing is known.
    """

    folder: Path
    config: DictConfig
    choices: dict[str, str]
    overrides: dict[str, str]
    validations: tuple[Validation, ...]
    end: str | None = None

    @property
    def caveat(self) -> str:
        """Why its metrics are not to be compared with those of other runs; "" where they are."""
        found = []
        if (debug := self.choices.get("debug", _NO_DEBUG[0])) not in _NO_DEBUG:
            found.append(f"debug={debug}")
        limit = OmegaConf.select(self.config, "trainer.limit_val_batches")
        if limit is not None and not (isinstance(limit, float) and limit >= 1.0):
            found.append(f"trainer.limit_val_batches={limit}")
        people = OmegaConf.select(self.config, "data.limit_val_people")
        if people is not None:
            found.append(f"data.limit_val_people={people}")
        if self.end is not None and self.end != _FINISHED:
            found.append(f"ended early ({_shortened(self.end)})" if self.end else "not finished")
        return ", ".join(found)

    @property
    def monitor(self) -> str:
        """The logged metric that chose the checkpoint `best`, or would have."""
        best = OmegaConf.select(self.config, "callbacks.best")
        return str(OmegaConf.select(self.config, "monitor") if best is None else best.monitor)

    @property
    def last(self) -> Validation:
        """The last validation."""
        return self.validations[-1]

    @property
    def best(self) -> Validation:
        """That of the run's checkpoint `best`, or what it would be of; the last where none is."""
        name = self.monitor.removeprefix("val/")
        sign = -1 if better(self.monitor) == "min" else 1
        scored = [v for v in self.validations if math.isfinite(v.metrics.get(name, math.nan))]
        return max(scored, key=lambda v: sign * v.metrics[name], default=self.last)

    def setting(self, key: str) -> str:
        """What a key of some command line is in this run, "" where the run has no such key."""
        if key in self.choices:
            return self.choices[key]
        try:
            value = OmegaConf.select(self.config, key)
        except OmegaConfBaseException:  # an interpolation that only holds while the run runs
            value = self.overrides.get(key)
        if value is None:
            return self.overrides.get(key, "")
        if isinstance(value, DictConfig):  # of a group with a list of files, Hydra keeps no choice
            given = self.overrides.get(key, str(OmegaConf.to_container(value)))
            return _shortened(given.replace(", ", ","))
        return str(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The runs' folders among and inside `folders`, each once, in natural order per folder.

    Raises:
        RunError: a folder does not exist.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise RunError(f"{folder} is not a folder; give a folder that uniphd-train wrote.")
        inside = {path.parents[1] for name in (_CONFIG, _METRICS) for path in folder.rglob(name)}
        for run in sorted(inside, key=lambda path: natural_order(str(path))):
            found.setdefault(run.resolve(), run)
    return list(found.values())


def read_run(folder: Path) -> Run:
    """Read one run.

    Raises:
        RunError: a file is missing or damaged, or the run has no validation.
    """
    config = _load_yaml(folder / _CONFIG)
    given = _load_yaml(folder / ".hydra" / "overrides.yaml")
    hydra = _load_yaml(folder / ".hydra" / "hydra.yaml")
    choices = OmegaConf.select(hydra, "hydra.runtime.choices")
    overrides = OmegaConf.to_container(given)  # as given, interpolations not resolved
    pairs = (str(override).lstrip("+~").partition("=") for override in overrides or ())
    validations = _read_validations(folder / _METRICS)
    if not validations:
        raise RunError(f"{folder} has no validation in {_METRICS}; let it train until one.")
    return Run(
        folder,
        config,
        {key: str(value) for key, value in (choices or {}).items() if value is not None},
        {key: value for key, _, value in pairs if not key.startswith("hydra")},
        validations,
        _read_end(folder / "run.json"),
    )


def natural_order(text: str) -> list[tuple[int, str]]:
    """A sort key by which "run 9" comes before "run 10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _load_yaml(path: Path) -> Any:
    try:
        return OmegaConf.load(path)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        reason = type(error).__name__
        raise RunError(f"{path} cannot be read ({reason}); leave the run out.") from error


def _read_end(path: Path) -> str | None:
    """How a run ended; "" where it has not, None where nothing is known."""
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return str(record["end"] or "") if isinstance(record, dict) and "end" in record else None


def _read_validations(path: Path) -> tuple[Validation, ...]:
    """Every step of metrics.csv with validation metrics; of one that was repeated, the last."""
    validations: dict[int, dict[str, float]] = defaultdict(dict)
    for name, points in read_metrics(path).items():
        if name.startswith("val/"):
            for step, value in points:
                validations[step][name.removeprefix("val/")] = value
    return tuple(Validation(step, validations[step]) for step in sorted(validations))
