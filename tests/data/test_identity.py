"""Who is the same person, whatever notation two annotations use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from uniphd.data.annotations import ReferredPerson
from uniphd.data.identity import person_places

SIZE = (120, 160)


def rectangle(left: int, top: int, width: int, height: int) -> bytes:
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    mask[top : top + height, left : left + width] = 1
    return bytes(coco_mask.encode(mask)["counts"])


def person(left: int = 20, width: int = 40, **changes: Any) -> ReferredPerson:
    """A rectangle 80 pixels high with seventeen keypoints in it."""
    random = np.random.default_rng(0)
    points = random.uniform((left, 20), (left + width, 100), (17, 2))
    fields: dict[str, Any] = {
        "image_id": 1, "annotation_id": 1, "file_name": "a.jpg", "height": SIZE[0],
        "width": SIZE[1], "caption": "a man", "bbox": (left, 20.0, width, 80.0),
        "area": width * 80.0, "counts": rectangle(left, 20, width, 80),
        "keypoints": np.column_stack([points, np.full(17, 2)]).astype(np.float32),
        "scribbles": np.zeros((5, 12, 2), np.int32),
    }  # fmt: skip
    return ReferredPerson(**{**fields, **changes})


def moved(one: ReferredPerson, by: float, visibility: int = 2) -> ReferredPerson:
    points = one.keypoints[:, :2] + by
    return replace(
        one, keypoints=np.column_stack([points, np.full(17, visibility)]).astype(np.float32)
    )


def labelled(one: ReferredPerson, places: list[int]) -> ReferredPerson:
    kept = np.isin(np.arange(17), places)
    return replace(one, keypoints=one.keypoints * kept[:, None].astype(np.float32))


Again = Callable[[ReferredPerson], ReferredPerson]
SAME: dict[str, Again] = {
    "hidden for visible": lambda a: moved(a, 0, 1),
    "a keypoint fewer": lambda a: labelled(a, list(range(1, 17))),
    "no keypoint in common": lambda a: labelled(a, []),
    "other keypoints and the same mask": lambda a: moved(a, 9),
    "rounded keypoints": lambda a: replace(a, keypoints=a.keypoints.round()),
    "a mask of a row more": lambda a: replace(a, counts=rectangle(20, 20, 40, 81)),
    "half of the mask": lambda a: moved(replace(a, counts=rectangle(20, 20, 40, 40)), 1, 1),
    "a third of the mask": lambda a: replace(a, counts=rectangle(30, 20, 14, 80)),
    "three keypoints": lambda a: labelled(replace(a, counts=rectangle(20, 20, 40, 60)), [0, 5, 9]),
}
OTHER: dict[str, Again] = {
    "beside": lambda a: person(70),
    "in front": lambda a: person(30, 50),
    "a mask apart": lambda a: replace(a, counts=rectangle(80, 20, 40, 80)),
    "a mask that touches": lambda a: replace(a, counts=rectangle(50, 20, 40, 80)),
    "keypoints apart": lambda a: moved(replace(a, counts=rectangle(20, 20, 40, 60)), 1.5),
    "two keypoints": lambda a: labelled(replace(a, counts=rectangle(20, 20, 40, 60)), [0, 5]),
}


@pytest.mark.parametrize("again", SAME.values(), ids=SAME)
def test_trifles_make_nobody_else(again: Again) -> None:
    one = person()
    assert person_places([one, again(one)]).tolist() == [0, 0]


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_others_are_others(other: Again) -> None:
    one = person()
    assert person_places([one, other(one)]).tolist() == [0, 1]


def test_the_first_annotation_stands_for_the_person() -> None:
    a, b = person(), person(70)
    assert person_places([a, b, SAME["rounded keypoints"](a), b, moved(a, 0, 1)]).tolist() == [
        0, 1, 0, 1, 0,
    ]  # fmt: skip
    assert person_places([a]).tolist() == [0]
    assert person_places([]).tolist() == []


def test_the_order_does_not_matter() -> None:
    """The first and the last are the same by the one in the middle alone, and so in any order."""
    a = person()
    chain = [a, moved(replace(a, counts=rectangle(20, 20, 40, 60)), 0.8)]
    chain.append(moved(replace(a, counts=rectangle(20, 20, 40, 50)), 1.6))
    assert person_places([chain[0], chain[2]]).tolist() == [0, 1]
    for order in permutations(chain):
        assert person_places(order).tolist() == [0, 0, 0]
