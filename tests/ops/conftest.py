"""Fixtures of the operator tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
import torch

from uniphd.ops.backend import load_native


@pytest.fixture(autouse=True)
def default_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests choose the backend themselves."""
    monkeypatch.delenv("UNIPHD_OPS", raising=False)


@pytest.fixture(scope="session")
def native() -> None:
    """The native CPU operators, compiled once into the user's cache."""
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler.split()[0]) is None:
        pytest.skip(f"needs a C++ compiler; there is no {compiler}")
    load_native("cpu")


@pytest.fixture
def keep_threads() -> Iterator[None]:
    """The test may change the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
