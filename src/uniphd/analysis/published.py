"""The published numbers that runs are compared with (`published.csv` names their source)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

SOURCE = "arXiv 2410.20508, table 2"


@dataclass(frozen=True)
class PublishedModel:
    """A model of the paper.

    Attributes:
        name: as the paper calls it.
        metrics: fractions by "<prompt kind>/<metric>", as in a run's validation.
    """

    name: str
    metrics: dict[str, float]


def published_models() -> tuple[PublishedModel, ...]:
    """The models of the table, in its order."""
    lines = files(__package__).joinpath("published.csv").read_text(encoding="utf-8").splitlines()
    models: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        name, kind = row.pop("model"), row.pop("prompt")
        values = {f"{kind}/{metric}": float(value) / 100 for metric, value in row.items()}
        models.setdefault(name, {}).update(values)
    return tuple(PublishedModel(name, metrics) for name, metrics in models.items())
