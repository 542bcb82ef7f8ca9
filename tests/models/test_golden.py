"""The parts of the network, and all of it, give the official network's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.__main__ import NETWORK_CHECKS, beyond_tolerance
from parity.official_network import load_official_network
from uniphd.models.uniphd import UniPHD


@pytest.fixture(scope="module")
def network(golden: Path) -> UniPHD:
    """The official network with the stored numbers' weights, through our converter."""
    return load_official_network(golden)


# The other end-to-end files are large, or need all of the language model.
STORED = NETWORK_CHECKS.keys() - {"end_to_end_text", "end_to_end_point"}


@pytest.mark.parametrize("name", sorted(STORED))
def test_the_official_numbers(golden: Path, network: UniPHD, name: str) -> None:
    assert beyond_tolerance(golden / f"{name}_a.npz", network) == []
