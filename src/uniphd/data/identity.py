"""Who is the same person: an image's annotations may describe somebody twice, in two notations.

A person with several captions stands in as many rows, which may differ in trifles: polygons or run
lengths, a keypoint visible or hidden, a mask drawn anew. Metrics, statistics and the contrastive
loss tell people apart by this rule alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from scipy.sparse.csgraph import connected_components

_EQUAL_MASKS = 0.95
"""IoU above which two masks show one person, whatever their keypoints."""

_SIMILAR_MASKS = 0.25
"""IoU above which they may, by their keypoints: a silhouette covers a third of its rectangle."""

_LEAST_KEYPOINTS = 3
"""Keypoints that both annotations must label to be compared by them."""

_DISTANCE = 1.0
"""Pixels that every one of them may be off, in x and in y."""


class Annotated(Protocol):
    """What people are told apart by."""

    @property
    def segmentation(self) -> dict[str, Any]:
        """The mask as pycocotools takes it."""

    @property
    def keypoints(self) -> npt.NDArray[Any]:
        """(K, 3) x, y, v."""


def person_places(annotations: Sequence[Annotated]) -> npt.NDArray[np.intp]:
    """By annotation of one image, (N,): the place of the first annotation of the same person.

    Two annotations are of one person if their masks have an IoU above 0.95, or above 0.25 and at
    least three keypoints in common, none of them more than a pixel apart. Whoever is the same as
    one of a person's annotations is that person, so the order of the annotations does not matter.

    Args:
        annotations: of one image, all of its size.
    """
    count = len(annotations)
    if count < 2:
        return np.arange(count)
    masks = [annotation.segmentation for annotation in annotations]
    overlaps = coco_mask.iou(masks, masks, [False] * count)
    same = overlaps > _EQUAL_MASKS
    for first, second in np.argwhere(np.triu((overlaps > _SIMILAR_MASKS) & ~same)):
        same[first, second] = _equal_keypoints(annotations[first], annotations[second])
    if not np.triu(same, 1).any():
        return np.arange(count)
    _, person = connected_components(same, directed=False)
    places: npt.NDArray[np.intp] = np.unique(person, return_index=True)[1][person]
    return places


def _equal_keypoints(first: Annotated, second: Annotated) -> bool:
    labelled = (first.keypoints[:, 2] > 0) & (second.keypoints[:, 2] > 0)
    apart = np.abs(first.keypoints[labelled, :2] - second.keypoints[labelled, :2])
    return len(apart) >= _LEAST_KEYPOINTS and bool((apart <= _DISTANCE).all())
