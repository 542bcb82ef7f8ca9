"""Synthetic scenes, drawn once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from torch import Tensor

from tests.data.conftest import word_lengths
from uniphd.synthetic.layout import Split
from uniphd.synthetic.scene import SceneConfig, SyntheticScene, render_scene
from uniphd.synthetic.writer import write_folder

CONFIG = SceneConfig(seed=5)
SMALL = SceneConfig(seed=3, size=(96, 96), people=(2, 3))


def draw(split: Split, count: int) -> list[SyntheticScene]:
    return [render_scene(CONFIG, split, index) for index in range(count)]


@pytest.fixture(scope="session")
def scenes() -> list[SyntheticScene]:
    """Scenes to train on."""
    return draw("train", 60)


@pytest.fixture(scope="session")
def unseen_scenes() -> list[SyntheticScene]:
    """Scenes with held-out combinations of colours."""
    return draw("val_unseen", 25)


@pytest.fixture(scope="session")
def pair_scenes() -> list[SyntheticScene]:
    """Scenes of the same difficulty with combinations that occur in training."""
    return draw("val_seen_pairs", 25)


@pytest.fixture(scope="session")
def synthetic_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set on disk, drawn by this process; read only."""
    out = tmp_path_factory.mktemp("synthetic") / "people"
    write_folder(out, SMALL, train=6, val=3, workers=1)
    return out


@pytest.fixture
def tokenize() -> Callable[[Sequence[str]], tuple[Tensor, Tensor]]:
    """The length of every word."""
    return word_lengths
