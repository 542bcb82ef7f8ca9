from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from uniphd.inference.predictor import Predictor
from uniphd.serve.limits import Limits
from uniphd.serve.service import Service
from uniphd.synthetic.annotations import AnnotatedScene, render_annotated
from uniphd.synthetic.scene import SceneConfig


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return Predictor("synthetic_cpu", device="cpu")


@pytest.fixture(scope="session")
def scene() -> AnnotatedScene:
    return render_annotated(SceneConfig(seed=1, size=(150, 200)), "val", 0)


@pytest.fixture(scope="session")
def scene_file(scene: AnnotatedScene) -> bytes:
    """The image (200 x 150) as a PNG file."""
    return image_file(scene.image)


@pytest.fixture
def service(predictor: Predictor) -> Service:
    return Service(predictor, Limits(upload=2**20, pixels=100_000, cached=2, requests=20))


def image_file(pixels: np.ndarray, name: str = "PNG", **options: object) -> bytes:
    """The content of an image file."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, name, **options)
    return file.getvalue()
