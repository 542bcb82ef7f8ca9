"""Which way a logged value is better: losses fall, metrics rise."""

from __future__ import annotations

from typing import Literal

LOSSES = "train/"
"""How the names of logged losses begin."""

METRICS_PREFIX = "val/"
"""How the names of logged metrics begin."""

DIRECTED = (LOSSES, METRICS_PREFIX)
"""How names begin whose direction is known."""


def better(name: str | None) -> Literal["min", "max"]:
    """Lightning's `mode` for a logged name; None, where nothing is asked for, is "max"."""
    return "min" if name is not None and name.startswith(LOSSES) else "max"
