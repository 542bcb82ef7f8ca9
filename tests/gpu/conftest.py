"""Fixtures of the tests that need a CUDA device; they use no other conftest (benchmarks/gpu.sh)."""

from __future__ import annotations

import pytest
import torch

from uniphd.ops.backend import load_native


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    """A CUDA device with the native operators loaded."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; PyTorch sees none")
    load_native("cuda")
    return torch.device("cuda", torch.cuda.current_device())
