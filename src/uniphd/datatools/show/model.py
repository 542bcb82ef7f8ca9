"""What a page shows, as plain values: an index of everybody, and the shapes image by image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from uniphd.analysis.failures import OUTCOMES, outcome
from uniphd.analysis.statistics import COCO_SIZES
from uniphd.data.sample import annotated_person
from uniphd.datatools.show.outline import mask_outlines
from uniphd.datatools.show.people import PeopleFile, Person
from uniphd.datatools.show.predictions import Prediction
from uniphd.datatools.show.thumbnails import make_thumbnail
from uniphd.keypoints import KeypointSchema
from uniphd.prompts import FixedPrompt
from uniphd.structures import Size
from uniphd.visualization.canvas import Color
from uniphd.visualization.skeleton import bone_color, keypoint_color

Json: TypeAlias = dict[str, Any]

_FINE = 400  # pixels; coordinates of smaller images have a decimal
_OUTLINE = 400  # parts of an image's longer side that an outline may be off
_DRAWN_PROMPTS = {"point": "point", "scribble": "points"}  # and the field of their JSON


@dataclass(frozen=True)
class ShownPerson:
    """A person on the page.

    Attributes:
        file: of the annotation.
        person: the annotation.
        people: how many are annotated in the image.
        problems: kind and sentence.
        predictions: by kind of prompt; None for a person who was asked for and not found. Empty for
            one who was not asked for.
    """

    file: PeopleFile
    person: Person
    people: int
    problems: Sequence[tuple[str, str]] = ()
    predictions: Mapping[str, Prediction | None] = field(default_factory=dict)

    @property
    def quality(self) -> float:
        """The lowest of all predictions, see `Result.quality`; high for who was not asked for."""
        found = self.predictions.values()
        return min((p.result.quality if p else 0.0 for p in found), default=np.inf)


def select_people(people: Sequence[ShownPerson], limit: int) -> list[ShownPerson]:
    """At most so many people, in their order.

    Those with problems come first, the others by the worst prediction; without predictions they are
    spread evenly over the files.
    """
    if len(people) <= limit:
        return list(people)
    spread = np.argsort(np.arange(len(people)) * 0.618033988749895 % 1.0, kind="stable")
    turn = np.argsort(spread)
    order = sorted(
        range(len(people)), key=lambda i: (not people[i].problems, people[i].quality, turn[i])
    )
    return [people[index] for index in sorted(order[:limit])]


class PageModel:
    """The content of a page.

    Args:
        people: to show.
        kinds: of the prompts that were evaluated.
        side: pixels of the longer side of the copies of images.
    """

    def __init__(
        self, people: Sequence[ShownPerson], kinds: Sequence[str] = (), side: int = 240
    ) -> None:
        self.people = list(people)
        self.kinds = tuple(kinds)
        self.side = side
        self._files = list({id(shown.file): shown.file for shown in people}.values())
        self._images: dict[Any, list[int]] = defaultdict(list)
        for number, shown in enumerate(self.people):
            self._images[_image_key(shown)].append(number)
        kinds_of_problem = Counter(kind for s in people for kind in {k for k, _ in s.problems})
        self._problems = [kind for kind, _ in kinds_of_problem.most_common()]

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._images)

    def index(self) -> Json:
        """What filters and captions need of everybody."""
        images = {key: number for number, key in enumerate(self._images)}
        return {
            "files": [
                {"name": file.name, "keypoints": _keypoint_set(file.schema)} for file in self._files
            ],
            "kinds": list(self.kinds),
            "outcomes": list(OUTCOMES),
            "sizes": list(COCO_SIZES.items()),
            "problems": self._problems,
            "people": [self._entry(shown, images[_image_key(shown)]) for shown in self.people],
        }

    def blocks(self, workers: int) -> Iterator[Json]:
        """The images with the shapes of their people, in the order of `index`.

        Args:
            workers: threads.
        """
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(self._block, self._images.values())

    def _entry(self, shown: ShownPerson, image: int) -> Json:
        person = shown.person
        results = {
            kind: prediction and _scores(prediction)
            for kind, prediction in shown.predictions.items()
        }
        return {
            "file": self._files.index(shown.file),
            "image": image,
            "name": person.file_name or "",
            "id": _id(person.image_id),
            "annotation": _id(person.annotation_id),
            "captions": list(person.captions),
            "area": person.area,
            "keypoints": person.num_keypoints,
            "people": shown.people,
            "problems": [[self._problems.index(kind), text] for kind, text in shown.problems],
            **({"results": results} if results else {}),
        }

    def _block(self, numbers: Sequence[int]) -> Json:
        first = self.people[numbers[0]]
        thumbnail = make_thumbnail(first.file.images, first.person.file_name, self.side)
        size = thumbnail.size or first.person.size or (1, 1)
        return {
            "thumbnail": thumbnail.url,
            "upright": thumbnail.upright,
            "error": thumbnail.error,
            "size": [size[1], size[0]],
            "people": {number: _shapes(self.people[number]) for number in numbers},
        }


def _image_key(shown: ShownPerson) -> Any:
    person = shown.person
    if person.file_name is None:
        return id(shown.file), person.place
    return str(shown.file.images), person.file_name, person.size


def _keypoint_set(schema: KeypointSchema) -> Json:
    names = schema.names
    bones = [(*edge, _hex(bone_color(names[edge[0]], names[edge[1]]))) for edge in schema.edges]
    return {
        "names": list(names),
        "colors": [_hex(keypoint_color(n)) for n in names],
        "bones": bones,
    }


def _scores(prediction: Prediction) -> Json:
    result = prediction.result
    known = not np.isnan(result.oks)
    return {
        "score": round(result.score, 4),
        "iou": round(result.iou, 4) if prediction.has_mask else None,
        "oks": round(result.oks, 4) if known else None,
        "outcome": OUTCOMES.index(outcome(result)) if prediction.has_mask else None,
        "quality": round(result.quality, 4),
    }


def _shapes(shown: ShownPerson) -> Json:
    person = shown.person
    size = person.size or (1, 1)
    strokes = () if person.scribbles is None else person.scribbles
    shape = partial(_shape, size=size)
    found = {kind: prediction for kind, prediction in shown.predictions.items() if prediction}
    return {
        **shape(person.bbox, person.keypoints, person.counts),
        "strokes": [_points(stroke, size) for stroke in strokes],
        "results": {kind: _predicted(prediction, shape) for kind, prediction in found.items()},
    }


def _predicted(prediction: Prediction, shape: Any) -> Json:
    result = prediction.result
    pose = np.column_stack([result.keypoints, 1 + result.visible])  # 2 visible, 1 hidden
    kind, annotation = result.kind, result.annotation
    prompt: list[Any] = []
    if kind in _DRAWN_PROMPTS and annotation.scribbles.size:
        asked = FixedPrompt(kind)(annotated_person(annotation), Random(0))
        points = np.array(asked.to_json()[_DRAWN_PROMPTS[kind]]).reshape(-1, 2)
        prompt = _points(points, annotation.size)
    counts = result.counts if prediction.has_mask else None
    return {**shape(prediction.bbox, pose, counts), "prompt": prompt}


def _shape(
    bbox: npt.NDArray[np.float64] | None,
    keypoints: npt.NDArray[np.float64] | None,
    counts: bytes | None,
    size: Size,
) -> Json:
    polygons = mask_outlines(counts, size, max(size) / _OUTLINE) if counts else []
    return {
        "box": None if bbox is None or not np.isfinite(bbox).all() else _points(bbox, size),
        "pose": [] if keypoints is None else _points(keypoints, size),
        "mask": [_points(polygon, size) for polygon in polygons],
    }


def _points(numbers: npt.NDArray[Any], size: Size) -> list[float]:
    """Rounded numbers in one list; one that is none becomes 0."""
    digits = 1 if max(size) < _FINE else 0
    flat = np.nan_to_num(np.asarray(numbers, dtype=np.float64), posinf=0, neginf=0).ravel()
    return [int(v) if v == int(v) else v for v in flat.round(digits).tolist()]


def _id(value: Any) -> str:
    return "" if value is None else str(value)[:40]


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
