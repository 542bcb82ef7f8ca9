"""Scenes -> RefHuman records: one per person, with scribbles and an image id of its own."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from uniphd.data.annotations import ReferredPerson
from uniphd.data.scribbles import draw_scribbles
from uniphd.data.validation import NUM_SCRIBBLES
from uniphd.synthetic.layout import SPLITS, Split
from uniphd.synthetic.scene import MAX_PEOPLE, Person, World, draw_scene

MAX_SCENES = 1_000_000
"""Scenes of a split, so that image ids are unique over all splits."""

_IDS_PER_SCENE = MAX_PEOPLE + 2
_IDS_PER_SPLIT = MAX_SCENES * _IDS_PER_SCENE


@dataclass(frozen=True)
class DrawnScene:
    """A scene as a data set has it.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        records: of everybody.
        referred: per record whether the split asks for it.
    """

    image: npt.NDArray[np.uint8]
    records: tuple[ReferredPerson, ...]
    referred: tuple[bool, ...]


def draw_records(world: World, split: Split, index: int) -> DrawnScene:
    """Draw a scene and make its records.

    Image ids tell split, scene and person, so that they do not depend on how many scenes there are.
    """
    scene = draw_scene(world, split, index)
    first_id = _IDS_PER_SPLIT * SPLITS.index(split) + _IDS_PER_SCENE * index + 1
    return DrawnScene(
        image=scene.image,
        records=tuple(
            _make_record(world, person, first_id + number, image_name(split, index))
            for number, person in enumerate(scene.people)
        ),
        referred=tuple(person.referred for person in scene.people),
    )


def image_name(split: Split, index: int) -> str:
    """The file name of a scene's image."""
    return f"{split}_{index:06d}.png"


def _make_record(world: World, person: Person, image_id: int, file_name: str) -> ReferredPerson:
    height, width = person.mask.shape
    mask = np.asfortranarray(person.mask, dtype=np.uint8)
    runs = coco_mask.encode(mask)
    x, y, w, h = coco_mask.toBbox(runs).tolist()
    random = Random(f"scribbles/{world.seed}/{image_id}")
    return ReferredPerson(
        image_id=image_id,
        annotation_id=image_id,
        file_name=file_name,
        height=height,
        width=width,
        caption=person.captions[0].text,
        bbox=(x, y, w, h),
        area=float(coco_mask.area(runs)),
        keypoints=person.keypoints,
        counts=bytes(runs["counts"]),
        scribbles=draw_scribbles(mask, random, NUM_SCRIBBLES).astype(np.int32),
        other_captions=tuple(said.text for said in person.captions[1:]),
    )


def image_entry(record: ReferredPerson) -> dict[str, Any]:
    """A record's entry in `images`; other readers ignore the list `captions`, all its sentences."""
    return {
        "id": record.image_id,
        "file_name": record.file_name,
        "height": record.height,
        "width": record.width,
        "caption": record.caption,
        "captions": [record.caption, *record.other_captions],
    }


def annotation_entry(record: ReferredPerson) -> dict[str, Any]:
    """A record's entry in `annotations`."""
    return {
        "id": record.annotation_id,
        "image_id": record.image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": list(record.bbox),
        "area": record.area,
        "num_keypoints": record.num_keypoints,
        "keypoints": [round(value, 1) for value in record.keypoints.ravel().tolist()],
        "segmentation": {
            "size": [record.height, record.width],
            "counts": record.counts.decode("ascii"),
        },
        "scribble": record.scribbles.ravel().tolist(),
    }
