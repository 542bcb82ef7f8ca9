from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from uniphd.data.annotations import ReferredPerson
from uniphd.structures import Instances

MakePerson = Callable[..., ReferredPerson]
MakeInstances = Callable[..., Instances]


@pytest.fixture
def make_person() -> MakePerson:
    """A rectangular person, 60 x 120 pixels large, with all keypoints labelled."""

    def make(
        image_id: int,
        annotation_id: int | None = None,
        size: tuple[int, int] = (160, 200),
        labelled: bool = True,
    ) -> ReferredPerson:
        rng = np.random.default_rng(image_id)
        left, top = int(rng.integers(5, 100)), int(rng.integers(5, 30))
        mask = np.zeros(size, dtype=np.uint8, order="F")
        mask[top : top + 120, left : left + 60] = 1
        points = rng.uniform((left, top), (left + 60, top + 120), (17, 2))
        visibility = np.full((17, 1), 2.0 if labelled else 0.0)
        return ReferredPerson(
            image_id=image_id,
            annotation_id=image_id if annotation_id is None else annotation_id,
            file_name=f"{image_id}.jpg",
            height=size[0],
            width=size[1],
            caption="a person",
            bbox=(float(left), float(top), 60.0, 120.0),
            area=float(mask.sum()),
            keypoints=np.concatenate([points, visibility], axis=1).astype(np.float32),
            counts=coco_mask.encode(mask)["counts"],
            scribbles=np.zeros((5, 12, 2), dtype=np.int32),
        )

    return make


@pytest.fixture
def make_instances() -> MakeInstances:
    """Detections for a person: one that is `noise` pixels off, below it `wrong` ones elsewhere."""

    def make(
        person: ReferredPerson,
        noise: float = 0.0,
        wrong: int = 0,
        seed: int = 0,
        score: float = 0.9,
    ) -> Instances:
        rng = np.random.default_rng([seed, person.image_id])
        x, y, w, h = person.bbox
        boxes = np.array([[x, y, x + w, y + h]] * (1 + wrong))
        keypoints = np.repeat(person.keypoints[None, :, :2], 1 + wrong, axis=0).astype(np.float64)
        masks = np.repeat(person.mask()[None], 1 + wrong, axis=0)
        boxes += noise * rng.standard_normal(boxes.shape)
        keypoints += noise * rng.standard_normal(keypoints.shape)
        masks[0] = np.roll(masks[0], round(noise), axis=1)
        keypoints[1:] += 70
        boxes[1:] *= 0.3
        masks[1:] = masks[1:, ::-1, ::-1]
        scores = np.concatenate([[score], score * rng.uniform(0.1, 0.9, wrong)])
        return Instances(
            scores=torch.from_numpy(scores).float(),
            queries=torch.arange(1 + wrong),
            boxes=torch.from_numpy(boxes).float(),
            keypoints=torch.from_numpy(keypoints).float(),
            visibility=torch.full((1 + wrong, 17), 0.75),
            masks=torch.from_numpy(masks.copy()).bool(),
        )

    return make
