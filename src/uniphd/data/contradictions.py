"""Fields of a person that cannot all be right: box, area, keypoints and scribbles against the mask.

The mask is what the others are compared with. For 90 people of COCO, the box and the mask's box
have an IoU of .959 at least, the area is .994 to 1.006 times the mask's pixels, and 60 % or more of
the keypoints lie in the box grown by a tenth. The limits here leave room for coarse masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from uniphd.data.geometry import Geometries, Geometry
from uniphd.data.problems import OnError, Problem
from uniphd.data.readings import (
    Flags,
    Numbers,
    box_readings,
    corners_of,
    overlap,
    point_forms,
    point_readings,
    share_inside,
)
from uniphd.errors import AnnotationError

_LEAST_IOU = 0.5
_LARGEST_FACTOR = 1.5  # between an area and the mask's pixels
_LEAST_SHARE, _LEAST_POINTS = 0.5, 3  # of the points in the mask's box
_CONTAINED = 0.95  # of the mask's box in the other: perhaps a box around hidden parts, too
_BORDER = 1.0

_SYSTEMATIC = 0.5  # of the people; or, with one other reading that fits,
_SYSTEMATIC_READING, _LEAST_PEOPLE = 0.1, 3
_TOLD = 0.5  # of those who contradict themselves: what fits them is said
ANOTHERS = "another person's"
"""The reading of a field that fits another person of the image."""

_OF_KEYPOINTS = "the box of the keypoints"
_KEYPOINT_BOX, _LARGEST_IOU = 1.5, 0.9  # pixels between the two, and against the mask's box
_FITTING_ANOTHER = 0.7


@dataclass(frozen=True)
class Contradiction:
    """A field of one person that contradicts another one.

    Attributes:
        place: of the person among those who were compared.
        field: its name, in quotes.
        other: what it contradicts.
        shown: the two values.
        reading: what the field fits as; empty where nothing fits.
        systematic: whether it is so in the file as a whole.
        points: (P, 2) the points of the field read so, in pixels, NaN where there is none; None
            where that is not known.
    """

    place: int
    field: str
    other: str
    shown: str
    reading: str
    systematic: bool
    points: Numbers | None


@dataclass(frozen=True)
class Contradictions:
    """What contradicts itself in a file.

    Attributes:
        systematic: one problem for each field that holds something else in the file as a whole.
        single: one problem for each field of a person that contradicts the mask otherwise.
        people: both, person by person.
    """

    systematic: tuple[Problem, ...] = ()
    single: tuple[Problem, ...] = ()
    people: tuple[Contradiction, ...] = ()


def _not_points(reading: str) -> None:
    """What has no points cannot be read as any."""


@dataclass(frozen=True)
class _Finding:
    """A field that contradicts another one.

    Attributes:
        field: its name, in quotes.
        judged: (N,) the people who have it.
        wrong: (N,) those who have it wrong.
        readings: what it may hold, and for each of those who have it wrong whether that fits.
        show: the values of one person.
        coarse: (N,) whose contradiction may be a coarse mask where no other reading fits.
        other: what it contradicts.
        read_as: the points of those who have it wrong in a reading, or None.
    """

    field: str
    judged: Flags
    wrong: Flags
    readings: dict[str, Flags]
    show: Callable[[int], str]
    coarse: Flags | bool = False
    other: str = "the mask"
    read_as: Callable[[str], Numbers | None] = _not_points

    def fits(self, reading: str) -> Flags:
        """For each of those who have it wrong, whether a reading fits."""
        return self.readings.get(reading, np.zeros(int(self.wrong.sum()), dtype=bool))


def find_contradictions(people: Sequence[Geometry], file: str) -> Contradictions:
    """Compare box, area, keypoints and scribbles of people with their masks.

    A contradiction is systematic where it holds for half of the people, or where a tenth of them
    have one and the same other reading, as in a file put together of two.

    Args:
        people: of one file.
        file: the file, for messages.
    """
    systematic: list[Problem] = []
    single: list[Problem] = []
    contradictions: list[Contradiction] = []
    for finding in _findings(Geometries(people)) if people else ():
        if not finding.wrong.any():
            continue
        reading = max(finding.readings, key=lambda name: int(finding.fits(name).sum()))
        fitting, judged = int(finding.fits(reading).sum()), int(finding.judged.sum())
        certain = finding.wrong if fitting else finding.wrong & ~np.asarray(finding.coarse)
        usual = fitting >= max(_LEAST_PEOPLE, _SYSTEMATIC_READING * judged)
        whole = certain.sum() >= _SYSTEMATIC * judged or (usual and reading != ANOTHERS)
        contradictions += _by_person(finding, reading, bool(whole))
        if whole:
            systematic.append(_systematic(finding, reading, fitting, people, file))
        else:
            single += _single(finding, reading, people, file)
    return Contradictions(tuple(systematic), tuple(single), tuple(contradictions))


def contradiction_problems(
    people: Sequence[Geometry], file: str, on_error: OnError, known: Set[int] = frozenset()
) -> list[Problem]:
    """What contradicts itself in single people: warnings, or with "skip" reasons to leave them out.

    Args:
        people: of one file.
        file: the file, for messages.
        on_error: "raise" or "skip".
        known: image ids that have a problem already.

    Raises:
        AnnotationError: the file contradicts itself as a whole.
    """
    found = find_contradictions(people, file)
    if found.systematic:
        raise AnnotationError(*(problem.message for problem in found.systematic))
    return [
        replace(problem, is_warning=on_error == "raise")
        for problem in found.single
        if known.isdisjoint(problem.image_ids)
    ]


def _systematic(
    finding: _Finding, reading: str, fitting: int, people: Sequence[Geometry], file: str
) -> Problem:
    wrong: list[int] = np.flatnonzero(finding.wrong).tolist()
    first = wrong[int(finding.fits(reading).argmax())]
    fits = f"; {fitting} fit as {reading}" if fitting >= _TOLD * len(wrong) else ""
    message = (
        f"{file}: {finding.field} of {len(wrong)} of {finding.judged.sum()} people contradicts "
        f"{finding.other}{fits}, such as image id {people[first].image_id}: {finding.show(first)}; "
        "correct the file, or use it as it stands with data.verify_fields=false."
    )
    ids = tuple(people[index].image_id for index in wrong)
    return Problem(f"{finding.field} against {finding.other}", message, ids)


def _by_person(finding: _Finding, usual: str, systematic: bool) -> Iterator[Contradiction]:
    points = finding.read_as(usual)
    for number, index in enumerate(np.flatnonzero(finding.wrong).tolist()):
        names = [name for name in (ANOTHERS, usual) if finding.fits(name)[number]]
        reading = (names[-1] if systematic else names[0]) if names else ""
        yield Contradiction(
            index,
            finding.field,
            finding.other,
            finding.show(index),
            reading,
            systematic,
            points[number] if points is not None and reading == usual else None,
        )


def _single(
    finding: _Finding, usual: str, people: Sequence[Geometry], file: str
) -> Iterator[Problem]:
    kind = f"{finding.field} against {finding.other}"
    for number, index in enumerate(np.flatnonzero(finding.wrong).tolist()):
        names = [name for name in (ANOTHERS, usual) if finding.fits(name)[number]]
        fits = f", and fits as {names[0]}" if names else ""
        message = (
            f"{file}, image id {people[index].image_id}: {finding.field} contradicts "
            f"{finding.other}{fits}: {finding.show(index)}; correct it."
        )
        yield Problem(kind, message, (people[index].image_id,))


def _findings(fields: Geometries) -> Iterator[_Finding]:
    stated = corners_of(fields.boxes)
    exchanged = _exchanged_sides(fields, stated)
    if exchanged.wrong.any():
        yield exchanged
        return
    in_mask = _share(fields.keypoints, fields.masks)
    in_box = _share(fields.keypoints, stated)
    off_box = overlap(stated, fields.masks) < _LEAST_IOU
    off_box &= np.isfinite(fields.boxes.sum(1))
    of_keypoints = _boxes_of_keypoints(fields, stated)
    off_keypoints = in_mask < _LEAST_SHARE
    both = off_box & off_keypoints & (in_box >= _LEAST_SHARE)
    yield _boxes(fields, "'bbox'", (off_box & ~both) | (of_keypoints & ~off_keypoints))
    yield _boxes(fields, "'bbox' and 'keypoints'", both)
    yield _points(
        fields, "'keypoints'", fields.keypoints, off_keypoints & ~(in_box >= _LEAST_SHARE)
    )
    off_scribbles = _share(fields.scribbles, fields.masks) < _LEAST_SHARE
    yield _points(fields, "'scribble'", fields.scribbles, off_scribbles)
    yield _areas(fields)


def _exchanged_sides(fields: Geometries, stated: Numbers) -> _Finding:
    """Boxes that leave their images, where none would if width and height were exchanged."""
    ends = stated[:, 2:] - _BORDER
    outside = (ends - fields.sizes).max(1) > 0
    inside = overlap(stated, fields.masks)[~outside]
    if (ends > fields.sizes[:, ::-1]).any() or (inside.size and np.median(inside) < _LEAST_IOU):
        outside = np.zeros_like(outside)
    return _Finding(
        "'height' and 'width'",
        np.isfinite(ends.sum(1)),
        outside,
        {"each other": outside[outside]},
        lambda i: f"{_brief(fields.sizes[i][::-1])} beside 'bbox' {_brief(fields.boxes[i])}",
        other="'bbox'",
    )


def _boxes_of_keypoints(fields: Geometries, stated: Numbers) -> Flags:
    """Boxes around the keypoints, as CVAT has them for skeletons, that are not the mask's."""
    labelled = np.isfinite(fields.keypoints)
    low = np.where(labelled, fields.keypoints, np.inf).min(1)
    high = np.where(labelled, fields.keypoints, -np.inf).max(1)
    near = np.abs(np.hstack([low, high]) - stated) <= _KEYPOINT_BOX
    enough = labelled.all(-1).sum(1) >= _LEAST_POINTS
    return np.asarray(near.all(1) & enough & (overlap(stated, fields.masks) < _LARGEST_IOU))


def _boxes(fields: Geometries, name: str, wrong: Flags) -> _Finding:
    boxes, masks = fields.boxes[wrong], fields.masks[wrong]
    readings = {_OF_KEYPOINTS: _boxes_of_keypoints(fields, corners_of(fields.boxes))[wrong]}
    if wrong.any():
        readings |= box_readings(boxes, fields.sizes[wrong], masks)
    readings[ANOTHERS] = _is_anothers(
        fields, wrong, lambda i, masks: overlap(corners_of(fields.boxes[[i] * len(masks)]), masks)
    )
    common = np.hstack(
        [
            np.maximum(corners_of(fields.boxes)[:, :2], fields.masks[:, :2]),
            np.minimum(corners_of(fields.boxes)[:, 2:], fields.masks[:, 2:]),
        ]
    )
    return _Finding(
        name,
        np.isfinite(fields.boxes.sum(1)),
        wrong,
        readings,
        lambda i: f"{_brief(fields.boxes[i])} beside the mask's {_brief(_as_box(fields.masks[i]))}",
        overlap(common, fields.masks) >= _CONTAINED,
    )


def _points(fields: Geometries, name: str, points: Numbers, wrong: Flags) -> _Finding:
    masks = fields.masks[wrong]
    readings = (
        dict(point_readings(points[wrong], fields.sizes[wrong], masks)) if wrong.any() else {}
    )
    readings[ANOTHERS] = _is_anothers(
        fields, wrong, lambda i, masks: share_inside(points[[i] * len(masks)], masks)
    )

    def show(index: int) -> str:
        first = points[index][np.isfinite(points[index].sum(1))][0]
        return f"{_brief(first)} beside the mask's box {_brief(_as_box(fields.masks[index]))}"

    def read_as(reading: str) -> Numbers | None:
        forms = point_forms(points[wrong], fields.sizes[wrong], masks)
        return next((form for name, form in forms if name == reading), None)

    judged = np.isfinite(_share(points, fields.masks))
    return _Finding(name, judged, wrong, readings, show, read_as=read_as)


def _is_anothers(fields: Geometries, wrong: Flags, fit: Callable[[int, Numbers], Numbers]) -> Flags:
    """For everyone who is wrong, whether the field fits another person of the image."""
    candidates = [(int(i), fields.masks[fields.others(int(i))]) for i in np.flatnonzero(wrong)]
    fits = [bool((fit(index, masks) > _FITTING_ANOTHER).any()) for index, masks in candidates]
    return np.array(fits, dtype=bool)


def _areas(fields: Geometries) -> _Finding:
    areas, pixels, image = fields.areas, fields.pixels, fields.sizes.prod(1)
    sides = fields.masks[:, 2:] - fields.masks[:, :2]

    def beyond(factor: float) -> Flags:  # of small masks, the outline is many pixels
        outline = sides.sum(1)
        high, low = pixels * factor + outline, pixels / factor - outline
        return np.asarray((areas > high) | (areas < low))

    box = _near(areas, sides.prod(1)) | _near(areas, fields.boxes[:, 2:].prod(1))
    finer = _near(pixels, sides.prod(1)) & (areas < pixels) & (areas > pixels / 4)
    wrong = (beyond(_LARGEST_FACTOR) & ~finer) | (beyond(1.1) & box)
    readings = {
        "the area of the box": box,
        "a fraction of the image": _near(areas * image, pixels),
        "a percentage of the image": _near(areas * image / 100, pixels),
        "the square root of the mask's pixels": _near(areas**2, pixels),
        "one number for all": areas == areas[0],
    }
    factor = np.median((areas / pixels)[wrong]) if wrong.any() else 1.0
    times = f"that of images {factor**0.5:.3g} times as large"
    readings[times] = _near(areas / factor, pixels)
    return _Finding(
        "'area'",
        np.isfinite(areas),
        wrong,
        {name: fits[wrong] for name, fits in readings.items()},
        lambda i: f"{areas[i]:g} beside the {pixels[i]:g} pixels of the mask",
    )


def _share(points: Numbers, boxes: Numbers) -> Numbers:
    """The share of points in a box, NaN where they are too few to tell."""
    shares = share_inside(points, boxes)
    shares[np.isfinite(points).all(-1).sum(1) < _LEAST_POINTS] = np.nan
    return shares


def _near(first: Numbers, second: Numbers) -> Flags:
    return np.asarray(np.abs(first - second) <= 0.03 * second)


def _as_box(corners: Numbers) -> Numbers:
    return np.hstack([corners[:2], corners[2:] - corners[:2]])


def _brief(numbers: Numbers) -> str:
    return "[" + ", ".join(f"{number:.4g}" for number in numbers.tolist()) + "]"
