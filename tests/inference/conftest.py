from __future__ import annotations

import pytest

from uniphd.inference.predictor import Predictor
from uniphd.synthetic.annotations import AnnotatedScene, render_annotated
from uniphd.synthetic.scene import SceneConfig


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return Predictor("synthetic_cpu", device="cpu")


@pytest.fixture(scope="session")
def scene() -> AnnotatedScene:
    """A synthetic image, not square and larger than what the network sees, and its people."""
    return render_annotated(SceneConfig(seed=1, size=(150, 200)), "val", 0)
