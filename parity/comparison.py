"""One item of a parity check: what we compute against what the official code computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Comparison:
    """Two arrays that should agree; equal infinities and NaNs at the same place do.

    Attributes:
        item: what is compared, for instance "boxes".
        actual: ours; numbers, truth values or strings, as array, tensor or plain value.
        expected: the official one.
        atol: largest absolute difference allowed.
        rtol: allowed difference relative to the expected magnitude, on top of `atol`.
    """

    item: str
    actual: Any
    expected: Any
    atol: float
    rtol: float = 0.0

    @property
    def max_abs(self) -> float:
        """Largest absolute difference; infinite where shapes differ or a NaN is on one side."""
        difference = self._difference()
        return float(difference.max(initial=0.0))

    @property
    def max_rel(self) -> float:
        """Largest difference relative to the expected magnitude, zeros left out."""
        expected = _to_array(self.expected)
        difference = self._difference()
        if difference.shape != expected.shape or expected.dtype.kind in "US":
            return float(difference.max(initial=0.0))
        counted = np.isfinite(expected) & (expected != 0)
        return float((difference[counted] / np.abs(expected[counted])).max(initial=0.0))

    @property
    def passed(self) -> bool:
        """Whether every difference is within tolerance."""
        expected = _to_array(self.expected)
        allowed = self.atol + np.zeros(1)
        if expected.dtype.kind not in "US" and self.rtol:
            allowed = self.atol + self.rtol * np.nan_to_num(np.abs(expected), posinf=0.0)
        difference = self._difference()
        if difference.shape != expected.shape:
            return False
        return bool((difference <= allowed).all())

    def _difference(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        actual, expected = _to_array(self.actual), _to_array(self.expected)
        if actual.shape != expected.shape:
            return np.full(1, np.inf)
        if expected.dtype.kind in "US":
            return np.where(actual == expected, 0.0, np.inf)
        same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.abs(actual - expected))
        return np.where(np.isnan(difference), np.inf, difference)


def _to_array(value: Any) -> np.ndarray[Any, np.dtype[Any]]:
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    return array if array.dtype.kind in "US" else array.astype(np.float64)
