"""Every stored number of the official network, losses, metrics and post-processing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from parity import __main__ as parity
from parity.official_network import load_official_network
from uniphd.models.uniphd import UniPHD


@pytest.fixture(scope="module")
def network(all_golden: Path) -> UniPHD:
    """The official network with the stored numbers' weights, through our converter."""
    return load_official_network(all_golden)


def test_all_files(all_golden: Path, network: UniPHD) -> None:
    files = sorted(all_golden.glob("*.npz"))
    wrong = {path.stem: parity.beyond_tolerance(path, network) for path in files}
    assert {name: items for name, items in wrong.items() if items} == {}
    assert len(files) >= 22


def test_the_parameters_are_the_official_ones(network: UniPHD) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == 184_031_828
    total = sum(float(parameter.detach().double().sum()) for parameter in network.parameters())
    assert total == pytest.approx(44518.8924, abs=1e-2)


def test_a_file_that_cannot_be_checked_is_listed_after_the_others(
    golden: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("oks_loss_a", "pckh_a"):
        shutil.copy(golden / f"{name}.npz", tmp_path)
    (tmp_path / "losses_a.npz").write_bytes(b"PK damaged")
    shutil.copy(golden / "pckh_a.npz", tmp_path / "unheard_of_a.npz")
    monkeypatch.setattr(parity, "load_official_network", lambda folder: None)
    monkeypatch.setattr("sys.argv", ["parity", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_:
        parity.main()
    assert exit_.value.code == 1
    output = capsys.readouterr().out
    assert "4 files, 5 items, 0 beyond tolerance, 2 broken" in output
    assert "losses_a could not be checked" in output
    assert "unheard_of_a could not be checked: ValueError: there is no check for" in output
