"""The numbers that a file has for people, right or wrong, to be compared with each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from uniphd.data.readings import Numbers, corners_of
from uniphd.data.validation import (
    NUM_SCRIBBLES,
    SCRIBBLE_POINTS,
    FieldError,
    parse_file_name,
    parse_segmentation,
    parse_size,
)
from uniphd.plain_values import Size

_OTHERS = 50
_MASKS_PER_CALL = 200  # pycocotools 2.0.11 counts in 8 bits how many it is given
_HUGE = 1e9  # beyond any image


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a file has for one person, whether it is right or not; None where it is missing.

    Attributes:
        image_id: of the person.
        file_name: of the image.
        size: (height, width) of the image.
        counts: the mask as compressed COCO run lengths.
        bbox: four numbers.
        area: a number.
        keypoints: (K, 3).
        scribbles: (P, 2), in one piece.
    """

    image_id: int
    file_name: str
    size: Size
    counts: bytes
    bbox: npt.NDArray[np.float64] | None
    area: float | None
    keypoints: npt.NDArray[Any] | None
    scribbles: npt.NDArray[Any] | None


def read_geometry(
    image: Mapping[str, Any], annotation: Mapping[str, Any], num_keypoints: int
) -> Geometry | None:
    """What two entries of a file have, as far as it is numbers; None without image or mask.

    Args:
        image: an entry of `images`.
        annotation: the entry of `annotations` for it.
        num_keypoints: K.
    """
    try:
        size, file_name = parse_size(image), parse_file_name(image)
        counts, _ = parse_segmentation(annotation, size)
    except FieldError:
        return None
    return geometry_of(image["id"], annotation, num_keypoints, size, file_name, counts)


def geometry_of(
    image_id: int,
    annotation: Mapping[str, Any],
    num_keypoints: int,
    size: Size,
    file_name: str,
    counts: bytes,
) -> Geometry:
    """The numbers of a person whose image and mask are known; see `read_geometry`."""
    area: Any = annotation.get("area")
    return Geometry(
        image_id=image_id,
        file_name=file_name,
        size=size,
        counts=counts,
        bbox=_numbers(annotation.get("bbox"), (4,)),
        area=float(area) if type(area) in (int, float) and 0 < area < _HUGE else None,
        keypoints=_numbers(annotation.get("keypoints"), (num_keypoints, 3)),
        scribbles=_numbers(annotation.get("scribble"), (NUM_SCRIBBLES * SCRIBBLE_POINTS, 2)),
    )


class Geometries:
    """The numbers of people as arrays, NaN where one is missing.

    Attributes:
        masks: (N, 4) x1, y1, x2, y2 of the masks.
        pixels: (N,) of the masks.
        sizes: (N, 2) width, height of the images.
        boxes: (N, 4).
        areas: (N,).
        keypoints: (N, K, 2) those that are labelled.
        scribbles: (N, P, 2).
        of_image: the people of every image.
        images: (N,) the image of everyone.
    """

    def __init__(self, people: Sequence[Geometry]) -> None:
        runs = [{"size": list(person.size), "counts": person.counts} for person in people]
        self.masks = corners_of(np.asarray(coco_mask.toBbox(runs), dtype=np.float64))
        starts = range(0, len(runs), _MASKS_PER_CALL)
        areas = [coco_mask.area(runs[start : start + _MASKS_PER_CALL]) for start in starts]
        self.pixels = np.concatenate(areas).astype(np.float64)
        self.sizes = np.array([person.size[::-1] for person in people], dtype=np.float64)
        self.boxes = _stack([person.bbox for person in people], (4,))
        self.areas = np.array([np.nan if p.area is None else p.area for p in people])
        keypoints = _stack([person.keypoints for person in people], (1, 3))
        self.keypoints = np.where(keypoints[..., 2:] > 0, keypoints[..., :2], np.nan)
        self.scribbles = _stack([person.scribbles for person in people], (1, 2))
        self.images = [(person.file_name, person.size) for person in people]
        self.of_image: dict[Any, list[int]] = defaultdict(list)
        for index, image in enumerate(self.images):
            self.of_image[image].append(index)

    def others(self, index: int) -> list[int]:
        """Other people of someone's image, not more than a few dozen."""
        return [other for other in self.of_image[self.images[index]] if other != index][:_OTHERS]


def _numbers(values: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float64] | None:
    """Numbers in a shape; None where they are none, infinite, or of another number."""
    if not isinstance(values, list) or len(values) != np.prod(shape):
        return None
    if not all(type(value) in (int, float) and abs(value) < _HUGE for value in values):
        return None
    return np.array(values, dtype=np.float64).reshape(shape)


def _stack(rows: Sequence[npt.NDArray[Any] | None], missing: tuple[int, ...]) -> Numbers:
    """Rows of one shape in one array, NaN for those missing; `missing` is it where all are."""
    given = [index for index, row in enumerate(rows) if row is not None]
    present = [row for row in rows if row is not None]
    numbers = np.stack(present) if present else np.zeros((0, *missing))
    stacked = np.full((len(rows), *numbers.shape[1:]), np.nan)
    stacked[given] = numbers
    return stacked
