"""Captions from place and size, where exactly one person of an image fits them.

COCO stops annotating single people where there are many and marks a crowd instead. An image with a
crowd therefore gets no such caption: somebody in the crowd might fit, too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from uniphd.datatools.from_coco.people import CocoPeople

_APART = 0.08  # of the image's width, by which somebody is further left than anybody else
_LARGER = 1.5  # times as large as anybody else

_ALONE = ("the person",)
_LEFT = ("the person on the far left", "the leftmost person")
_RIGHT = ("the person on the far right", "the rightmost person")
_MIDDLE = ("the person in the middle",)
_LARGEST = ("the largest person",)


def template_captions(
    people: CocoPeople, places: npt.NDArray[np.intp]
) -> Mapping[int, tuple[str, ...]]:
    """Captions for those of the people whom they describe alone, by annotation id.

    Everybody in an image is compared, whether selected or not.

    Args:
        people: of the file.
        places: whom captions are wanted for.
    """
    order = np.argsort(people.image_ids, kind="stable")
    image_ids = people.image_ids[order]
    wanted = np.zeros(len(people), dtype=bool)
    wanted[places] = True
    captions: dict[int, tuple[str, ...]] = {}
    ends = np.flatnonzero(np.diff(image_ids)) + 1
    for members in np.split(order, ends):
        row = people.images.get(int(people.image_ids[members[0]]))
        if row is None or not wanted[members].any():
            continue
        if people.is_crowd[members].any():
            continue
        described = describe_places(people.boxes[members], people.areas[members], row.width)
        for member, texts in zip(members.tolist(), described, strict=True):
            if texts and wanted[member]:
                captions[int(people.ids[member])] = texts
    return captions


def describe_places(
    boxes: npt.NDArray[np.float64], areas: npt.NDArray[np.float64], width: int
) -> list[tuple[str, ...]]:
    """What is true of each of the people of an image and of nobody else there.

    Somebody is leftmost whose box begins further left than any other's, and whose centre does by
    8 % of the image's width; rightmost likewise. Of three people, the middle one is as far from
    both.
    Somebody is largest who has 1.5 times the area of the next.

    Args:
        boxes: (P, 4) x, y, width, height of everybody in the image.
        areas: (P,) of their masks.
        width: of the image, pixels.

    Returns:
        P lists of captions.
    """
    count = len(boxes)
    texts: list[tuple[str, ...]] = [()] * count
    if not (np.isfinite(boxes).all() and np.isfinite(areas).all()):
        return texts
    if count == 1:
        return [_ALONE]
    first, last = boxes[:, 0], boxes[:, 0] + boxes[:, 2]
    centre = (first + last) / 2
    apart = _APART * width
    for sign, edge, words in ((1, first, _LEFT), (-1, last, _RIGHT)):
        if (one := _outermost(sign * centre, sign * edge, apart)) is not None:
            texts[one] += words
    if count == 3:
        order = np.argsort(centre)
        if (np.diff(centre[order]) >= apart).all():
            texts[int(order[1])] += _MIDDLE
    small, large = np.argsort(areas)[-2:].tolist()
    if areas[large] >= _LARGER * areas[small]:
        texts[large] += _LARGEST
    return texts


def _outermost(
    centre: npt.NDArray[np.float64], edge: npt.NDArray[np.float64], apart: float
) -> int | None:
    """Whose centre is lowest by `apart`, and whose edge is lowest, too."""
    lowest, next_one = map(int, np.argsort(centre)[:2])
    if centre[next_one] - centre[lowest] < apart or edge[lowest] > np.delete(edge, lowest).min():
        return None
    return lowest
