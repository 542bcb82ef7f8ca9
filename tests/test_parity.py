"""Every stored number of the official network, losses, metrics and post-processing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity.__main__ import check_file, check_name, golden_files
from parity.official_network import load_official_network
from uniphd.models.uniphd import UniPHD


@pytest.fixture(scope="module")
def network(golden: Path) -> UniPHD:
    """The official network with the golden weights, through our converter."""
    return load_official_network(golden)


def test_all_golden_files(golden: Path, network: UniPHD) -> None:
    files = golden_files(golden)
    comparisons = {
        f"{path.stem}: {comparison.item}": comparison
        for path in files
        for comparison in check_file(path, network)
    }
    failed = {
        name: (comparison.max_abs, comparison.atol)
        for name, comparison in comparisons.items()
        if not comparison.passed
    }
    assert failed == {}
    assert len(files) >= 22


def test_the_parameters_are_the_official_ones(network: UniPHD) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == 184_031_828
    total = sum(float(parameter.detach().double().sum()) for parameter in network.parameters())
    assert total == pytest.approx(44518.8924, abs=1e-2)


def test_the_wrong_decoder_would_be_noticed(golden: Path) -> None:
    """Adding the position encoding out of place changes the layer by far more than tolerance."""
    for path in golden_files(golden):
        if check_name(path) == "decoder_layer":
            with np.load(path) as arrays:
                difference = arrays["WRONG_out_if_pos_embed_not_inplace"] - arrays["out"]
            assert np.abs(difference).max() > 0.1
