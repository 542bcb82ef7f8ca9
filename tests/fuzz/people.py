"""A small annotation file to be damaged, and what a sound record and target look like."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from tests.refhuman_folder import decode, uncompressed
from uniphd.data.annotations import ReferredPerson
from uniphd.structures import Size, Target

HEIGHT, WIDTH = 30, 40


def content() -> dict[str, Any]:
    """Three people, one with each notation of the mask."""
    images, annotations = [], []
    for number in range(3):
        left, top = 5 + 3 * number, 4 + number
        polygon = [left, top, left + 20, top, left + 20, top + 18, left, top + 18]
        runs = coco_mask.merge(coco_mask.frPyObjects([polygon], HEIGHT, WIDTH))
        size = [HEIGHT, WIDTH]
        keypoints = [[left + 2 + k % 5, top + 1 + k, 0 if k == 3 else 1 + k % 2] for k in range(17)]
        stroke = [[left + 3 + k, top + 4 + k] for k in range(12)]
        images.append(
            {
                "id": 10 + number,
                "file_name": f"image_{number}.png",
                "height": HEIGHT,
                "width": WIDTH,
                "caption": "the man on the left",
                "captions": ["him", "the upright man on the right"],
            }
        )
        annotations.append(
            {
                "id": 70 + number,
                "image_id": 10 + number,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [left, top, 20, 18],
                "area": 360,
                "num_keypoints": 16,
                "keypoints": np.array(keypoints).flatten().tolist(),
                "segmentation": [
                    [polygon],
                    {"size": size, "counts": runs["counts"].decode()},
                    {"size": size, "counts": uncompressed(decode(runs))},
                ][number],
                "scribble": np.array([stroke] * 5).flatten().tolist(),
            }
        )
    return copy.deepcopy({"images": images, "annotations": annotations})


def assert_sound_record(person: ReferredPerson) -> None:
    """What every later step relies on, by numpy and pycocotools alone."""
    height, width = person.size
    assert 0 < height * width < 2**28
    assert abs(person.image_id) < 2**63
    assert abs(person.annotation_id) < 2**63
    for text in (person.caption, person.file_name, *person.other_captions):
        assert text.strip()
        text.encode()
    x, y, w, h = person.bbox
    assert min(x + w, width) - max(x, 0) > 0
    assert min(y + h, height) - max(y, 0) > 0
    assert 0 < person.area <= height * width
    assert np.isfinite(person.keypoints).all()
    labelled = person.keypoints[person.keypoints[:, 2] > 0, :2]
    assert len(labelled) == person.num_keypoints > 0
    assert (labelled >= -1).all()
    assert (labelled <= (width + 1, height + 1)).all()
    if height * width > 10**6:
        return
    mask = decode({"size": [height, width], "counts": person.counts})
    assert mask.any()
    columns, rows = person.scribbles.reshape(-1, 2).T
    assert mask[rows, columns].all()


def assert_sound_target(target: Target, size: Size) -> None:
    """Finite numbers inside the image, and a person."""
    for name in ("boxes", "keypoints", "visibility", "area"):
        assert torch.isfinite(getattr(target, name)).all(), name
    assert (target.boxes >= 0).all()
    assert (target.boxes <= 1 + 1e-6).all()
    assert (target.boxes[:, 2:] > 0).all()
    assert target.masks.shape == (1, *size)
    assert target.masks.any()
    assert target.visibility.any()
    assert set(target.visibility.unique().tolist()) <= {0.0, 1.0}
    assert (target.area > 0).all()
