"""People of a file against each other and against themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from uniphd.data.contradictions import Contradiction, find_contradictions
from uniphd.data.geometry import Geometries, Geometry
from uniphd.data.identity import person_places
from uniphd.data.readings import Flags, Numbers, corners_of, overlap, point_forms, share_inside
from uniphd.data.validation import shown
from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.records import Record, shown_text
from uniphd.datatools.check.texts import caption_key

_FIELDS = {
    "'bbox'": ("bbox",),
    "'area'": ("area",),
    "'keypoints'": ("keypoints",),
    "'scribble'": ("scribble",),
    "'bbox' and 'keypoints'": ("bbox", "keypoints"),
    "'height' and 'width'": ("height", "bbox", "segmentation", "keypoints"),
}
"""What a contradiction is about; nothing is said of a field that is wrong by itself."""

_KINDS = {
    "'bbox'": "box against the mask",
    "'area'": "area against the mask",
    "'keypoints'": "keypoints against the mask",
    "'scribble'": "scribbles against the mask",
    "'bbox' and 'keypoints'": "box and keypoints against the mask",
    "'height' and 'width'": "height and width exchanged",
}
_EXPLAINED = (
    "box outside of the image",
    "box without area",
    "keypoint outside of the image",
    "wrong area",
    "scribble outside of the mask",
)
_SPECIAL = {"the box of the keypoints": "box of the keypoints"}

_FEW = 0.1  # as many people as contradict themselves

_SHIFT, _LEAST_PEOPLE, _MOST = 0.5, 5, 0.8  # of 1-based boxes

_SURE_IOU, _SURE_FACTOR, _SURE_SHARE = 0.9, 1.1, 0.5
"""Where a file holds something else as a whole, who is further from the mask than this has it, too:
of 90 people of COCO, nobody is."""


class _Person(NamedTuple):
    """What people are told apart by."""

    segmentation: dict[str, Any]
    keypoints: npt.NDArray[Any]


def contradictions(records: Sequence[Record], file: str) -> Iterator[Finding]:
    """Fields that contradict the mask, by the rule that holds before training.

    Where a file holds something else as a whole, that takes the place of what is wrong with the
    field of one person by itself, such as a box outside of the image.
    """
    judged = [record for record in records if record.geometry is not None]
    geometries = [record.geometry for record in judged if record.geometry is not None]
    for found in _with_doubtful(find_contradictions(geometries, file).people, geometries):
        record = judged[found.place]
        if found.systematic and found.reading:
            record.findings = [f for f in record.findings if not _is_explained(f, found)]
        wrong = {finding.field for finding in record.findings}
        if not wrong.isdisjoint(_FIELDS[found.field]):
            continue
        yield record.pair.finding(
            _SPECIAL.get(found.reading, _KINDS[found.field]),
            file,
            field=_FIELDS[found.field][0],
            value=found.shown,
            note=f"fits as {found.reading}" if found.reading else "",
            points=found.points if found.systematic and _is_exact(found.reading) else None,
            systematic=found.systematic,
        )


def _is_exact(reading: str) -> bool:
    """Whether a reading gives the right values, and not only about."""
    return not reading.startswith("those of images")


def _is_explained(finding: Finding, found: Contradiction) -> bool:
    return finding.field in _FIELDS[found.field] and finding.kind in _EXPLAINED


def _with_doubtful(
    everything: Sequence[Contradiction], geometries: Sequence[Geometry]
) -> Iterator[Contradiction]:
    """Contradictions, and whose field fits by chance in a file that has something else."""
    systematic = {found.field: found for found in everything if found.systematic and found.reading}
    if not systematic:
        yield from everything
        return
    fields = Geometries(geometries)
    doubts = {
        "'bbox'": overlap(corners_of(fields.boxes), fields.masks) < _SURE_IOU,
        "'area'": np.abs(np.log(fields.areas / fields.pixels)) > np.log(_SURE_FACTOR),
    }
    points = None
    if "'keypoints'" in systematic:
        wrong = {each.place for each in everything if each.field == "'keypoints'"}
        doubts["'keypoints'"], points = _both_ways(fields, systematic["'keypoints'"].reading, wrong)
    added: set[tuple[str, int]] = set()
    read_so = {(each.field, each.place) for each in everything if each.reading}
    for name, found in systematic.items():
        for place in np.flatnonzero(doubts.get(name, ())).tolist():
            if (name, place) not in read_so:
                added.add((name, place))
                read = points[place] if points is not None and name == "'keypoints'" else None
                said = "as the others of the file"
                yield replace(found, place=place, shown=said, points=read)
    yield from (each for each in everything if (each.field, each.place) not in added)


def _both_ways(fields: Geometries, reading: str, wrong: Set[int]) -> tuple[Flags, Numbers | None]:
    """Whose keypoints fit in a reading as well as they stand, and the points of all in it.

    The points are only known where hardly anybody fits as they stand alone: a file may be put
    together of two.
    """
    forms = point_forms(fields.keypoints, fields.sizes, fields.masks)
    read = next((form for name, form in forms if name == reading), None)
    if read is None:
        return np.zeros(len(fields.sizes), dtype=bool), None
    fits = np.asarray(share_inside(read, fields.masks) >= _SURE_SHARE)
    others = sum(not fits[place] for place in range(len(fits)) if place not in wrong)
    return fits, read if others <= _FEW * len(wrong) else None


def boxes_from_one(records: Sequence[Record], file: str) -> Iterator[Finding]:
    """Boxes that lie one pixel too far right and down in the file as a whole: counted from 1.

    That takes the place of boxes outside of the image.
    """
    judged = [r for r in records if r.geometry is not None and r.geometry.bbox is not None]
    if len(judged) < _LEAST_PEOPLE:
        return
    fields = Geometries([r.geometry for r in judged if r.geometry is not None])
    offsets = (corners_of(fields.boxes) - fields.masks).reshape(-1, 2, 2).mean(1)
    shifted = (np.abs(offsets - 1) < _SHIFT).all(1)
    if shifted.mean() < _MOST or (np.abs(np.median(offsets, axis=0) - 1) > _SHIFT / 2).any():
        return
    for record in judged:
        record.findings = [f for f in record.findings if f.kind != "box outside of the image"]
        yield record.pair.finding(
            "box counted from 1",
            file,
            field="bbox",
            value=shown(record.pair.annotation["bbox"]),
            note="x and y are 1 more than the mask's",
        )


def repetitions(records: Sequence[Record], file: str) -> Iterator[Finding]:
    """People who stand in a file twice, or are annotated in two ways, or share a caption."""
    images: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        if record.geometry is not None and record.keypoints is not None:
            images[record.file_name, record.size].append(record)
    for group in images.values():
        if len(group) > 1:
            yield from _of_image(group, file)


def _of_image(group: Sequence[Record], file: str) -> Iterator[Finding]:
    people = [_Person(r.segmentation, r.keypoints) for r in group if r.keypoints is not None]
    places = person_places(people).tolist()
    captions: dict[str, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record, place in zip(group, places, strict=True):
        captions[caption_key(record.caption or "")][place].append(record)
        first = group[place]
        if record is not first and len(captions[caption_key(record.caption or "")][place]) > 1:
            yield record.pair.finding(
                "repeated person",
                file,
                field="caption",
                value=shown_text(record.caption or ""),
                note=f"is the person and caption of image id {first.pair.image['id']}",
                other_place=first.pair.annotation_place,
            )
        elif record is not first and _differs(record, first):
            yield record.pair.finding(
                "person annotated in two ways",
                file,
                field=_differs(record, first),
                value=shown(record.pair.annotation.get(_differs(record, first))),
                note=f"is the person of image id {first.pair.image['id']}",
                other_place=first.pair.annotation_place,
            )
    for text, people_of in captions.items():
        if text and len(people_of) > 1:
            for record in (record for rows in people_of.values() for record in rows):
                yield record.pair.finding(
                    "caption of several people",
                    file,
                    field="caption",
                    value=shown_text(record.caption or ""),
                    note=f"{len(people_of)} people of this image",
                )


def _differs(record: Record, first: Record) -> str:
    """The field in which two annotations of one person differ; empty where they do not."""
    assert record.geometry is not None
    assert first.geometry is not None
    if not np.array_equal(record.keypoints, first.keypoints):  # type: ignore[arg-type]
        return "keypoints"
    if record.geometry.counts != first.geometry.counts:
        return "segmentation"
    if not _equal(record.geometry.bbox, first.geometry.bbox):
        return "bbox"
    return ""


def _equal(first: npt.NDArray[Any] | None, second: npt.NDArray[Any] | None) -> bool:
    return first is not None and second is not None and np.array_equal(first, second)
