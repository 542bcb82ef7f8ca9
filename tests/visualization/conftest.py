"""People, images and judged detections for the tests of images and figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from uniphd.data.annotations import ReferredPerson
from uniphd.synthetic.annotations import AnnotatedScene, render_annotated
from uniphd.synthetic.scene import SceneConfig

MakePerson = Callable[..., ReferredPerson]


@pytest.fixture(scope="session")
def drawn() -> list[AnnotatedScene]:
    """Four synthetic scenes of two or three people."""
    config = SceneConfig(seed=3, size=(96, 96), people=(2, 3))
    return [render_annotated(config, "val", number) for number in range(4)]


@pytest.fixture(scope="session")
def rendered(drawn: list[AnnotatedScene]) -> Image.Image:
    """The image of the first scene."""
    return Image.fromarray(drawn[0].image)


@pytest.fixture(scope="session")
def make_person() -> MakePerson:
    """A rectangle of 20 x 40 pixels with keypoints down its middle, in an image of 100 x 200."""

    def make(
        image_id: int, left: int, file_name: str = "a.jpg", caption: str = "somebody", labelled=True
    ) -> ReferredPerson:
        mask = np.zeros((100, 200), dtype=np.uint8, order="F")
        mask[30:70, left : left + 20] = 1
        keypoints = [(left + 10, 31 + 2 * k, 2 if labelled else 0) for k in range(17)]
        return ReferredPerson(
            image_id=image_id,
            annotation_id=image_id,
            file_name=file_name,
            height=100,
            width=200,
            caption=caption,
            bbox=(float(left), 30.0, 20.0, 40.0),
            area=800.0,
            keypoints=np.array(keypoints, dtype=np.float32),
            counts=coco_mask.encode(mask)["counts"],
            scribbles=np.full((5, 12, 2), (left + 10, 50), dtype=np.int32),
        )

    return make
