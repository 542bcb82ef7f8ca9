"""A COCO keypoints file to evaluate on: whom to ask about, and the ground truth of pycocotools."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from uniphd.data.annotations import ReferredPerson
from uniphd.data.categories import Categories, keypoint_order, parse_categories
from uniphd.data.json_file import read_json
from uniphd.data.masks import encode_segmentation
from uniphd.data.problems import OnError, Problem, raise_or_log
from uniphd.data.validation import (
    SCRIBBLE_POINTS,
    FieldError,
    is_id,
    parse_area,
    parse_box,
    parse_file_name,
    parse_keypoints,
    parse_segmentation,
    parse_size,
)
from uniphd.errors import AnnotationError
from uniphd.keypoints import COCO17, KeypointSchema
from uniphd.plain_values import PERSON, Size

_Entry: TypeAlias = Mapping[str, Any]
_Value = TypeVar("_Value")

_EMPTY_MASK, _NO_BOX, _NO_KEYPOINTS = "empty mask", "box without area", "no keypoints"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CocoFile:
    """The people of a COCO file.

    Attributes:
        path: the file.
        people: who can be asked about, image by image; here `image_id` is the image's, which its
            people share. Keypoints may all be unlabelled.
        images: entries with `id`, `height` and `width`, of all images.
        annotations: the ground truth, as pycocotools takes it: everybody, crowds included, numbered
            from 1 (pycocotools takes id 0 for "no match").
        unpromptable: people in the ground truth of whom no prompt can be made, by reason.
        schema: which keypoints they have.
    """

    path: Path
    people: tuple[ReferredPerson, ...]
    images: tuple[dict[str, Any], ...]
    annotations: tuple[dict[str, Any], ...]
    unpromptable: Mapping[str, int]
    schema: KeypointSchema


def read_coco(path: Path, on_error: OnError = "raise", schema: KeypointSchema = COCO17) -> CocoFile:
    """Read and check a COCO keypoints file, such as `person_keypoints_val2017.json`.

    Annotations of other classes are passed over. Crowds and people without labelled keypoints are
    in the ground truth, for pycocotools to ignore; crowds are nobody to ask about.

    Args:
        path: the file.
        on_error: "skip" leaves unusable annotations out of the ground truth, too, and counts them.
        schema: which keypoints it shall have.

    Raises:
        AnnotationError: the file is missing, is no such file, has other keypoints or nobody to ask
            about; with "raise" also when an annotation has a problem.
    """
    content = read_json(path)
    for name in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise AnnotationError(f"{path} has no list '{name}'; give COCO's keypoint annotations.")
    categories = parse_categories(content, str(path))
    reader = _Reader(str(path), categories, schema, keypoint_order(categories, schema, str(path)))
    reader.read_images(content["images"])
    reader.read_annotations(content["annotations"])
    raise_or_log(reader.problems, on_error, AnnotationError, str(path))
    if not reader.people:
        raise AnnotationError(f"{path} has nobody to ask about; give COCO's keypoint annotations.")
    file = CocoFile(
        path=path,
        people=tuple(sorted(reader.people, key=lambda p: (p.image_id, p.annotation_id))),
        images=tuple(
            {"id": image_id, "height": size[0], "width": size[1]}
            for image_id, (_, size) in sorted(reader.images.items())
        ),
        annotations=tuple(reader.annotations),
        unpromptable=reader.unpromptable,
        schema=schema,
    )
    _log(file)
    return file


def _log(file: CocoFile) -> None:
    """Say who is ignored and who is missed without being asked about."""
    crowds = sum(entry["iscrowd"] for entry in file.annotations)
    bare = sum(not entry["num_keypoints"] for entry in file.annotations) - crowds
    _logger.info(
        "%s: %d people in %d images can be asked about; as in pycocotools, %d crowds are ignored, "
        "and %d people without labelled keypoints where poses are evaluated",
        *(file.path, len(file.people), len({person.image_id for person in file.people})),
        *(crowds, bare),
    )
    if file.unpromptable:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in file.unpromptable.items())
        _logger.warning(
            "%s: no prompt can be made for %d people (%s), who count as missed",
            *(file.path, sum(file.unpromptable.values()), kinds),
        )


@dataclass
class _Reader:
    file: str
    categories: Categories
    schema: KeypointSchema
    order: Sequence[int]
    images: dict[int, tuple[str, Size]] = field(default_factory=dict)
    people: list[ReferredPerson] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    unpromptable: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def read_images(self, entries: Sequence[Any]) -> None:
        for place, entry in enumerate(entries):
            try:
                image_id = _id(entry, "id")
                if image_id in self.images:
                    raise FieldError("repeated image id", f"the id {image_id} is twice; keep one")
                self.images[image_id] = parse_file_name(entry), parse_size(entry)
            except FieldError as error:
                self._problem(f"images[{place}]", error)

    def read_annotations(self, entries: Sequence[Any]) -> None:
        seen: set[int] = set()
        for place, entry in enumerate(entries):
            try:
                annotation_id, image_id = _id(entry, "id"), _id(entry, "image_id")
                if not self._is_person(entry):
                    continue
                if annotation_id in seen:
                    raise FieldError(
                        "repeated annotation id", f"the id {annotation_id} is there twice"
                    )
                if image_id not in self.images:
                    raise FieldError(
                        "annotation without image",
                        f"'image_id' {image_id} is that of no usable image",
                    )
                seen.add(annotation_id)
                self._read_person(entry, *self.images[image_id])
            except FieldError as error:
                self._problem(f"annotations[{place}]", error)

    def _is_person(self, entry: _Entry) -> bool:
        others = self.categories.names.keys() - self.categories.people
        if entry.get("category_id", PERSON) in others:
            return False
        self.categories.require_person(entry)
        return True

    def _read_person(self, entry: _Entry, file_name: str, size: Size) -> None:
        flaws: list[str] = []
        counts = _tolerate(
            lambda: parse_segmentation(entry, size)[0],
            {_EMPTY_MASK: lambda: encode_segmentation(entry["segmentation"], size)},
            flaws,
        )
        box = _tolerate(
            lambda: parse_box(entry, size), {_NO_BOX: lambda: tuple(entry["bbox"])}, flaws
        )
        unlabelled = np.zeros((len(self.schema), 3), dtype=np.float32)
        is_crowd = _is_crowd(entry)
        if is_crowd and not entry.get("keypoints"):
            keypoints = unlabelled
        else:
            keypoints = _tolerate(
                lambda: parse_keypoints(entry, size, self.schema, self.order),
                {_NO_KEYPOINTS: lambda: unlabelled},
                [],
            )
        labelled = int((keypoints[:, 2] > 0).sum())
        if bool(entry.get("num_keypoints", labelled)) != bool(labelled):
            raise FieldError(
                "contradiction",
                f"'num_keypoints' is {entry['num_keypoints']!r:.40} and 'keypoints' has {labelled} "
                "labelled; correct one of them",
            )
        area = parse_area(entry, size)
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": entry["image_id"],
                "category_id": PERSON,
                "iscrowd": int(is_crowd),
                "bbox": list(box),
                "area": area,
                "segmentation": {"size": list(size), "counts": counts},
                "keypoints": keypoints.flatten().tolist(),
                "num_keypoints": labelled,
            }
        )
        if is_crowd:
            return
        if flaws:
            self.unpromptable[flaws[0]] += 1
            return
        self.people.append(
            ReferredPerson(
                image_id=entry["image_id"],
                annotation_id=entry["id"],
                file_name=file_name,
                height=size[0],
                width=size[1],
                caption="",
                bbox=box,
                area=area,
                keypoints=keypoints,
                counts=counts,
                scribbles=np.zeros((0, SCRIBBLE_POINTS, 2), dtype=np.int32),
                schema=self.schema,
            )
        )

    def _problem(self, place: str, error: FieldError) -> None:
        self.problems.append(Problem(error.kind, f"{self.file}, {place}: {error}."))


def _id(entry: Any, key: str) -> int:
    if not isinstance(entry, dict) or not is_id(entry.get(key)):
        raise FieldError("missing id", f"'{key}' is missing or no integer; give one")
    return int(entry[key])


def _is_crowd(entry: _Entry) -> bool:
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise FieldError("wrong iscrowd", f"'iscrowd' is {crowd!r:.40}; give 0 or 1")
    return bool(crowd)


def _tolerate(
    parse: Callable[[], _Value],
    instead: Mapping[str, Callable[[], Any]],
    flaws: list[str],
) -> _Value:
    """What `parse` returns, or what there is instead for a kind of error that is tolerated."""
    try:
        return parse()
    except FieldError as error:
        if error.kind not in instead:
            raise
        flaws.append(error.kind)
        value: _Value = instead[error.kind]()
        return value
