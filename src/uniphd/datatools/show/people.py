"""The people of annotation files, right or wrong, as far as they can be shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from uniphd.data.annotations import ReferredPerson
from uniphd.data.categories import keypoint_order, parse_categories
from uniphd.data.identity import person_places
from uniphd.data.masks import encode_mask
from uniphd.data.validation import (
    NUM_SCRIBBLES,
    SCRIBBLE_POINTS,
    FieldError,
    is_id,
    parse_file_name,
    parse_segmentation,
    parse_size,
)
from uniphd.datatools.check.files import DataFile, read_files
from uniphd.errors import AnnotationError
from uniphd.keypoints import COCO17, SCHEMAS, KeypointSchema
from uniphd.structures import Size

_Entry: TypeAlias = Mapping[str, Any]
_Value = TypeVar("_Value")

_HUGE = 1e9  # beyond any image
_UNKNOWN: Size = (1, 1)
_NONE: tuple[None, _Entry] = (None, {})


@dataclass(frozen=True, slots=True)
class Person:
    """A person of a file, whatever is wrong with the annotation; None where a field is unusable.

    Attributes:
        place: of the annotation in the file.
        image_place: of its entry of `images`; None where there is none.
        image_id: as the file has it.
        annotation_id: as the file has it.
        file_name: of the image, in one notation.
        size: (height, width) of the image that the file states.
        captions: none or more.
        bbox: (4,) x, y, width, height.
        area: of the mask in square pixels, as the file states it.
        keypoints: (K, 3) x, y, v in the order of the set.
        counts: the mask as compressed COCO run lengths.
        scribbles: (S, P, 2).
    """

    place: int
    image_place: int | None
    image_id: Any
    annotation_id: Any
    file_name: str | None
    size: Size | None
    captions: tuple[str, ...]
    bbox: npt.NDArray[np.float64] | None
    area: float | None
    keypoints: npt.NDArray[np.float64] | None
    counts: bytes | None
    scribbles: npt.NDArray[np.float64] | None

    @property
    def num_keypoints(self) -> int:
        """How many keypoints are labelled, hidden ones included."""
        return 0 if self.keypoints is None else int((self.keypoints[:, 2] > 0).sum())


@dataclass
class PeopleFile:
    """An annotation file.

    Attributes:
        name: its path in the folder of the data set.
        path: of the file.
        images: the folder of its images.
        schema: which K keypoints people have.
        people: in the order of the file.
        people_per_image: by place in `people`: how many are annotated in the image.
    """

    name: str
    path: Path
    images: Path
    schema: KeypointSchema
    people: list[Person]
    people_per_image: list[int]


def find_files(root: Path, splits: Sequence[str] = ()) -> list[DataFile]:
    """The annotation files of a folder.

    Args:
        root: a folder, or an annotation file.
        splits: "train", "val" and the like, or names of files; all that there are without any.

    Raises:
        AnnotationError: there is none, or no such split.
    """
    if root.is_file():
        return [file for file in read_files(root.parent) if file.name == root.name]
    found = {split_name(file.name): file for file in read_files(root)}
    unknown = [split for split in splits if split_name(split) not in found]
    if unknown:
        raise AnnotationError(
            f"{root} has no split '{unknown[0]}'; choose from {', '.join(found)}."
        )
    chosen = dict.fromkeys(map(split_name, splits or found))
    return [found[split] for split in chosen]


def split_name(name: str) -> str:
    """The split of `RefHuman_<split>.json`; the name of another file without its ending."""
    return name.removesuffix(".gz").removesuffix(".json").removeprefix("RefHuman_")


def read_people(root: Path, file: DataFile) -> PeopleFile:
    """The people of a file in RefHuman's or COCO's form; nobody is left out.

    Crowds are no people.

    Args:
        root: the folder of the data set.
        file: of its annotations.

    Raises:
        AnnotationError: the file cannot be read.
    """
    if file.content is None:
        raise AnnotationError(*(finding.note for finding in file.findings))
    path = root / file.name
    schema, order = file_keypoints(file.content, str(path))
    people = list(_people(file.content, schema, order))
    return PeopleFile(file.name, path, file.images, schema, people, count_people(people))


def count_people(people: Sequence[Person]) -> list[int]:
    """For everybody, how many people are annotated in the image; who is described twice is one."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for index, person in enumerate(people):
        groups[(person.file_name or f"\0{index}", person.size)].append(index)
    counts = [1] * len(people)
    for members in groups.values():
        number = len(set(person_places([_comparable(people[index]) for index in members])))
        for index in members:
            counts[index] = number
    return counts


def _comparable(person: Person) -> ReferredPerson:
    """The person for `person_places`, which compares masks and keypoints."""
    size = person.size or _UNKNOWN
    keypoints = np.zeros((0, 3)) if person.keypoints is None else person.keypoints
    empty = encode_mask(np.zeros(size, dtype=bool)).encode()
    return ReferredPerson(
        image_id=0,
        annotation_id=0,
        file_name="",
        height=size[0],
        width=size[1],
        caption="",
        bbox=(0.0, 0.0, 0.0, 0.0),
        area=0.0,
        keypoints=keypoints.astype(np.float32),
        counts=person.counts or empty,
        scribbles=np.zeros((0, SCRIBBLE_POINTS, 2), dtype=np.int32),
    )


def file_keypoints(content: Mapping[str, Any], file: str) -> tuple[KeypointSchema, Sequence[int]]:
    """The keypoint set that a file names and where they stand in it; COCO's where that is none."""
    for schema in SCHEMAS.values():
        try:
            return schema, keypoint_order(parse_categories(content, file), schema, file)
        except AnnotationError:
            continue
    return COCO17, range(len(COCO17))


def _people(content: _Entry, schema: KeypointSchema, order: Sequence[int]) -> Iterator[Person]:
    images: dict[int, tuple[int, _Entry]] = {}
    for number, entry in enumerate(content["images"]):
        if isinstance(entry, dict) and is_id(entry.get("id")):
            images.setdefault(entry["id"], (number, entry))
    for place, annotation in enumerate(content["annotations"]):
        if isinstance(annotation, dict) and annotation.get("iscrowd") != 1:
            image_id: Any = annotation.get("image_id")
            image_place, image = images.get(image_id, _NONE) if is_id(image_id) else _NONE
            yield _person(place, image_place, image, annotation, schema, order)


def _person(
    place: int,
    image_place: int | None,
    image: _Entry,
    annotation: _Entry,
    schema: KeypointSchema,
    order: Sequence[int],
) -> Person:
    size = _or_none(lambda: parse_size(image))
    mask = size and _or_none(lambda: parse_segmentation(annotation, size))
    area: Any = annotation.get("area")
    keypoints = _numbers(annotation.get("keypoints"), (len(schema), 3))
    captions = [image.get("caption"), *_listed(image.get("captions"))]
    return Person(
        place=place,
        image_place=image_place,
        image_id=annotation.get("image_id"),
        annotation_id=annotation.get("id"),
        file_name=_or_none(lambda: parse_file_name(image)),
        size=size,
        captions=tuple(dict.fromkeys(text for text in captions if isinstance(text, str) and text)),
        bbox=_numbers(annotation.get("bbox"), (4,)),
        area=float(area) if type(area) in (int, float) and 0 < area < _HUGE else None,
        keypoints=None if keypoints is None else keypoints[list(order)],
        counts=mask[0] if mask else None,
        scribbles=_numbers(annotation.get("scribble"), (NUM_SCRIBBLES, SCRIBBLE_POINTS, 2)),
    )


def _or_none(parse: Callable[[], _Value]) -> _Value | None:
    try:
        return parse()
    except FieldError:
        return None


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _numbers(values: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float64] | None:
    """Numbers in a shape; None where they are none, beyond any image, or of another number."""
    if not isinstance(values, list) or len(values) != np.prod(shape):
        return None
    if not all(type(value) in (int, float) and abs(value) < _HUGE for value in values):
        return None
    return np.array(values, dtype=np.float64).reshape(shape)
