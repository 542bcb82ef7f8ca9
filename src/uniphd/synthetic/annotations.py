"""A scene's annotations in RefHuman's form: one per person, each with its own image id."""

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
from uniphd.synthetic.scene import MAX_PEOPLE, Person, SceneConfig, render_scene

MAX_SCENES = 1_000_000
"""Scenes of a split, so that image ids are unique over all splits."""

_IDS_PER_SCENE = MAX_PEOPLE + 2
_IDS_PER_SPLIT = MAX_SCENES * _IDS_PER_SCENE


@dataclass(frozen=True)
class AnnotatedScene:
    """A scene as a data set has it.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        annotations: one per person.
        referred: per annotation, whether the split asks for that person.
    """

    image: npt.NDArray[np.uint8]
    annotations: tuple[ReferredPerson, ...]
    referred: tuple[bool, ...]


def render_annotated(config: SceneConfig, split: Split, index: int) -> AnnotatedScene:
    """Draw a scene and annotate its people.

    Image ids tell split, scene and person, so that they do not depend on how many scenes there are.
    """
    scene = render_scene(config, split, index)
    first_id = _IDS_PER_SPLIT * SPLITS.index(split) + _IDS_PER_SCENE * index + 1
    return AnnotatedScene(
        image=scene.image,
        annotations=tuple(
            _make_annotation(config, person, first_id + number, image_name(split, index))
            for number, person in enumerate(scene.people)
        ),
        referred=tuple(person.referred for person in scene.people),
    )


def image_name(split: Split, index: int) -> str:
    """The file name of a scene's image."""
    return f"{split}_{index:06d}.png"


def _make_annotation(
    config: SceneConfig, person: Person, image_id: int, file_name: str
) -> ReferredPerson:
    height, width = person.mask.shape
    mask = np.asfortranarray(person.mask, dtype=np.uint8)
    runs = coco_mask.encode(mask)
    x, y, w, h = coco_mask.toBbox(runs).tolist()
    random = Random(f"scribbles/{config.seed}/{image_id}")
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


def image_entry(annotation: ReferredPerson) -> dict[str, Any]:
    """An annotation's entry in `images`; other readers ignore `captions`, the list of them all."""
    return {
        "id": annotation.image_id,
        "file_name": annotation.file_name,
        "height": annotation.height,
        "width": annotation.width,
        "caption": annotation.caption,
        "captions": [annotation.caption, *annotation.other_captions],
    }


def annotation_entry(annotation: ReferredPerson) -> dict[str, Any]:
    """An annotation's entry in `annotations`."""
    return {
        "id": annotation.annotation_id,
        "image_id": annotation.image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": list(annotation.bbox),
        "area": annotation.area,
        "num_keypoints": annotation.num_keypoints,
        "keypoints": [round(value, 1) for value in annotation.keypoints.ravel().tolist()],
        "segmentation": {
            "size": [annotation.height, annotation.width],
            "counts": annotation.counts.decode("ascii"),
        },
        "scribble": annotation.scribbles.ravel().tolist(),
    }
