"""A model folder to be damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.composition import TINY, compose_train
from uniphd.checkpoints.folder import ModelConfig, save_folder
from uniphd.checkpoints.reading import portable_config
from uniphd.config.compose import build_network


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the smallest network."""
    folder = tmp_path_factory.mktemp("model")
    network, config = build_network(compose_train(None, *TINY, "data.root=unused"))
    save_folder(folder, ModelConfig(**portable_config(config, network)), network.state_dict())
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "good"))
