"""The official implementation's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.__main__ import beyond_tolerance
from parity.checks_metrics import CHECKS


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_the_official_numbers(golden: Path, name: str) -> None:
    assert beyond_tolerance(golden / f"{name}_a.npz") == []
