from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity.checks_losses import CHECKS


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_losses_are_the_official_ones(golden: Path, name: str) -> None:
    files = sorted(golden.glob(f"{name}_*.npz"))
    assert files
    for file in files:
        comparisons = CHECKS[name](dict(np.load(file)))
        failed = [f"{c.item}: {c.max_abs:.1e}" for c in comparisons if not c.passed]
        assert not failed, file.name
