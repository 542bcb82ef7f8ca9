"""Who is taken over: the paper's rules, and how many people each of them leaves out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uniphd.datatools.from_coco.people import CocoPeople


@dataclass(frozen=True)
class Rules:
    """What a person needs to be taken.

    Attributes:
        min_others: further people in the image, without crowds.
        min_keypoints: labelled keypoints, hidden ones included.
        min_area: of the mask, as a share of the image.
    """

    min_others: int = 0
    min_keypoints: int = 1
    min_area: float = 0.0


LIKE: Mapping[str, Rules] = {
    "refhuman-train": Rules(min_others=3, min_keypoints=8, min_area=0.02),
    "refhuman-val": Rules(min_keypoints=1, min_area=0.01),
}
"""The rules by which RefHuman's files were made (arXiv 2410.20508)."""

EVERYBODY = Rules()
"""Everybody with a keypoint, whom alone a pose can be learned of."""


@dataclass(frozen=True)
class Selection:
    """Who is left of a COCO file.

    Attributes:
        places: of the people in the file, ascending.
        left_out: number of people by the first rule that they do not meet, in the rules' order.
    """

    places: npt.NDArray[np.intp]
    left_out: Mapping[str, int]


def select_people(people: CocoPeople, rules: Rules, excluded: Collection[int] = ()) -> Selection:
    """Go through the rules one after the other.

    Args:
        people: of the file. Crowds are no people and nobody's others.
        rules: what a person needs.
        excluded: ids of images that are left out.
    """
    known = np.isin(people.image_ids, np.fromiter(people.images, np.int64, len(people.images)))
    without = np.isin(people.image_ids, np.fromiter(excluded, np.int64, len(excluded)))
    share = relative_areas(people)
    met = {
        "crowd, not a person": ~people.is_crowd,
        "image without a usable entry": known,
        "image excluded": ~without,
        f"fewer than {rules.min_others} other people in the image": (
            number_of_others(people) >= rules.min_others
        ),
        f"fewer than {rules.min_keypoints} labelled keypoints": (
            people.labelled >= rules.min_keypoints
        ),
        f"area below {100 * rules.min_area:g} % of the image": ~(share < rules.min_area),
    }
    left = np.ones(len(people), dtype=bool)
    left_out = {}
    for name, is_met in met.items():
        left_out[name] = int((left & ~is_met).sum())
        left &= is_met
    return Selection(np.flatnonzero(left), left_out)


def number_of_others(people: CocoPeople) -> npt.NDArray[np.int64]:
    """(N,) how many further people are in everybody's image; crowds are none."""
    images, place = np.unique(people.image_ids, return_inverse=True)
    together = np.bincount(place[~people.is_crowd], minlength=len(images))
    others: npt.NDArray[np.int64] = together[place] - ~people.is_crowd
    return others


def relative_areas(people: CocoPeople) -> npt.NDArray[np.float64]:
    """(N,) area over that of the image; NaN where either is not known."""
    pixels = {image_id: row.height * row.width for image_id, row in people.images.items()}
    sizes = [pixels.get(image_id, np.nan) for image_id in people.image_ids.tolist()]
    share: npt.NDArray[np.float64] = people.areas / np.array(sizes, dtype=np.float64)
    return share
