"""Fixtures that every test can use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.composition import TINY, compose_train
from tests.refhuman_folder import write_refhuman
from uniphd.config.compose import build_network
from uniphd.models.uniphd import UniPHD

os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true")
if processes := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # tests at once share the cores
    threads = max(1, (os.cpu_count() or 1) // int(processes))
    torch.set_num_threads(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of the commands that tests start

CHECKOUT = Path(__file__).resolve().parents[1]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of shells, for what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _shared(name: str) -> Path:
    """A folder of the material that lies beside the checkout (or at UNIPHD_SHARED)."""
    root = Path(os.environ.get("UNIPHD_SHARED", CHECKOUT.parent / "shared"))
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}, which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Inputs and outputs of the official network, a selection that every clone has."""
    return CHECKOUT / "tests" / "golden"


@pytest.fixture(scope="session")
def all_golden() -> Path:
    """All that are stored."""
    return _shared("golden")


@pytest.fixture(scope="session")
def refhuman_mini() -> Path:
    """Forty real images in RefHuman's format."""
    return _shared("data/refhuman_mini")


@pytest.fixture
def tiny_network() -> UniPHD:
    """The smallest network that has every part, with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return build_network(compose_train(None, *TINY, "data.root=unused"))[0].eval()


@pytest.fixture(scope="session")
def refhuman_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn people in RefHuman's format; read only."""
    return write_refhuman(tmp_path_factory.mktemp("refhuman"), people=4, seed=0)
