"""Comparing nested contents, such as checkpoints and batches, to the last bit."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

from torch import Tensor, equal


def differences(a: Any, b: Any, place: str = "") -> list[str]:
    """Where two contents are not the same."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return [] if a.dtype == b.dtype and equal(a, b) else [place]
    if is_dataclass(a) and type(a) is type(b):
        return differences(vars(a), vars(b), place)
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for key in a for found in differences(a[key], b[key], f"{place}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [found for i, (x, y) in pairs for found in differences(x, y, f"{place}/{i}")]
    return [] if a == b else [place]
