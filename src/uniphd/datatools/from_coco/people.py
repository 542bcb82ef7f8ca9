"""Everybody in a COCO file, in so few bytes each that all of them fit into memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from uniphd.data.categories import Categories, parse_categories
from uniphd.data.validation import FieldError, is_id, parse_file_name, parse_size
from uniphd.datatools.json_stream import stream_entries
from uniphd.errors import AnnotationError

_LISTS = ("images", "annotations")
_KEPT = ("license", "coco_url", "flickr_url")  # where an image is from, for who shows it


class ImageRow(NamedTuple):
    """An entry of `images`."""

    file_name: str
    height: int
    width: int
    source: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class CocoPeople:
    """The annotations of a COCO file, N of people, in the order of the file.

    Attributes:
        file: the file.
        images: by id, those whose entry can be used.
        categories: of the file.
        about: what else stands at its top, such as `licenses`.
        other_classes: how many annotations are of other categories.
        unusable: how many annotations have no usable id or image id.
        ids: (N,) int64.
        image_ids: (N,) int64.
        is_crowd: (N,) bool.
        labelled: (N,) how many keypoints are labelled.
        areas: (N,) of the mask in square pixels; NaN where the file has none.
        boxes: (N, 4) x, y, width, height; NaN where the file has none.
        starts: (N,) the annotation's first byte in the file, after decompression.
        lengths: (N,) its number of bytes.
    """

    file: Path
    images: Mapping[int, ImageRow]
    categories: Categories
    about: Mapping[str, Any]
    other_classes: int
    unusable: int
    ids: npt.NDArray[np.int64]
    image_ids: npt.NDArray[np.int64]
    is_crowd: npt.NDArray[np.bool_]
    labelled: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """N."""
        return len(self.ids)


def read_people(file: Path) -> CocoPeople:
    """Go through a COCO file once.

    Args:
        file: such as `person_keypoints_train2017.json`, plain or gzipped.

    Raises:
        AnnotationError: it is no such file, has no people, or two annotations have one id.
    """
    images: dict[int, ImageRow] = {}
    about: dict[str, Any] = {}
    whole, real = array("q"), array("d")
    listed: set[str] = set()
    unusable = 0
    for name, value, start, length in stream_entries(file, _LISTS):
        listed.add(name)
        if name == "images":
            _keep_image(value, images)
        elif name != "annotations":
            about[name] = value
        elif isinstance(value, dict) and is_id(value.get("id")) and is_id(value.get("image_id")):
            whole.extend((value["id"], value["image_id"], *_counts(value), start, length))
            real.extend(_numbers(value))
        else:
            unusable += 1
    for name in _LISTS:
        if name not in listed:
            raise AnnotationError(f"{file} has no '{name}'; give COCO's keypoint annotations.")
    categories = parse_categories(about, str(file))
    numbers = np.frombuffer(whole, dtype=np.int64).reshape(-1, 7)
    fractions = np.frombuffer(real, dtype=np.float64).reshape(-1, 5)
    is_person = np.isin(numbers[:, 4], sorted(categories.people)) | (numbers[:, 4] == _NO_CATEGORY)
    numbers, fractions = numbers[is_person], fractions[is_person]
    if not len(numbers):
        raise AnnotationError(f"{file} has no annotation of a person; give COCO's keypoints.")
    people = CocoPeople(
        file=file,
        images=images,
        categories=categories,
        about=about,
        other_classes=int((~is_person).sum()),
        unusable=unusable,
        ids=numbers[:, 0],
        image_ids=numbers[:, 1],
        is_crowd=numbers[:, 2] != 0,
        labelled=numbers[:, 3],
        areas=fractions[:, 0],
        boxes=fractions[:, 1:],
        starts=numbers[:, 5],
        lengths=numbers[:, 6],
    )
    _refuse_repeated_ids(people)
    return people


_NO_CATEGORY = -1 << 62  # of an annotation that has none


def _keep_image(value: Any, images: dict[int, ImageRow]) -> None:
    if not isinstance(value, dict) or not is_id(value.get("id")):
        return
    try:
        size, file_name = parse_size(value), parse_file_name(value)
    except FieldError:
        return
    source = tuple((key, value[key]) for key in _KEPT if key in value)
    images[value["id"]] = ImageRow(file_name, *size, source)


def _counts(annotation: dict[str, Any]) -> tuple[int, int, int]:
    """Crowd or not, the number of labelled keypoints, and the category."""
    keypoints = annotation.get("keypoints")
    visibility = keypoints[2::3] if isinstance(keypoints, list) else []
    category = annotation.get("category_id")
    return (
        int(annotation.get("iscrowd", 0) != 0),
        sum(isinstance(value, int | float) and value > 0 for value in visibility),
        category if is_id(category) else _NO_CATEGORY,
    )


def _numbers(annotation: dict[str, Any]) -> list[float]:
    """Area and box."""
    box = annotation.get("bbox")
    box = box if isinstance(box, list) and len(box) == 4 else [None] * 4
    return [
        value if type(value) in (int, float) and abs(value) < 1e9 else math.nan
        for value in (annotation.get("area"), *box)
    ]


def _refuse_repeated_ids(people: CocoPeople) -> None:
    ids, counts = np.unique(people.ids, return_counts=True)
    if (counts > 1).any():
        raise AnnotationError(
            f"{people.file}: 'annotations' has the id {ids[counts > 1][0]} more than once; make "
            "ids unique."
        )
