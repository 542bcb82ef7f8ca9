"""Configurations in files of strangers: plain values, not too many, not too deep, each key once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MOST_VALUES = 100_000
_DEEPEST = 50
LARGEST_JSON = 1 << 22
"""Bytes of a file."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too large, no JSON, or has a key twice.
        RecursionError: it is nested too deeply.
    """
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"it is larger than {LARGEST_JSON >> 20} MiB")
    return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)


def require_plain(content: Any) -> None:
    """Refuse what would not be the same after a round through a file.

    Raises:
        ValueError: a value is no string, number, flag, list, mapping or nothing; a number is not
            finite; there are too many values (a few may stand for many where they are shared), or
            they are nested too deeply.
    """
    waiting = [(content, 0)]
    for _ in range(_MOST_VALUES):
        if not waiting:
            return
        value, depth = waiting.pop()
        inner = _inner(value)
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        if len(inner) > _MOST_VALUES:
            break
        waiting.extend((item, depth + 1) for item in inner)
    raise ValueError(f"it has more than {_MOST_VALUES:,} values")


def _inner(value: Any) -> list[Any]:
    """The values of a container; none of a single value."""
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str | int)]:
            raise ValueError(f"a name in it is a {type(wrong[0]).__name__}")
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str | int | float | None):
        raise ValueError(f"a value is a {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a number is {value}")
    return []


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for name, value in pairs:
        if name in mapping:
            raise ValueError(f"it has {name!r:.40} twice")
        mapping[name] = value
    return mapping
