"""One person of a COCO file as an entry of each of the two lists of a RefHuman file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from uniphd.data.categories import Categories
from uniphd.data.masks import decode_segmentation
from uniphd.data.scribbles import draw_scribbles
from uniphd.data.validation import (
    NUM_SCRIBBLES,
    FieldError,
    parse_area,
    parse_box,
    parse_keypoints,
    parse_segmentation,
    refuse_crowd,
)
from uniphd.datatools.from_coco.people import ImageRow
from uniphd.keypoints import KeypointSchema
from uniphd.plain_values import PERSON

IDS_PER_PERSON = 1000
"""Ids that a person has where every caption has an entry of its own."""


class Job(NamedTuple):
    """A person to convert.

    Attributes:
        annotation: the entry of the COCO file, JSON.
        annotation_id: of COCO.
        image_id: of COCO.
        image: its entry; the file name is that of the new file.
        captions: none for a person without text.
        source: where the captions are from.
    """

    annotation: bytes
    annotation_id: int
    image_id: int
    image: ImageRow
    captions: tuple[str, ...]
    source: str | None


class Converted(NamedTuple):
    """What becomes of a person.

    Attributes:
        images: the entries of `images`, JSON, one or one per caption.
        annotations: the entries of `annotations`, JSON.
        problem: the kind of what is wrong with the person, who then has no entries.
    """

    images: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Converter:
    """Makes the entries; can be sent to other processes.

    Attributes:
        schema: the keypoints of the new file.
        order: where they stand in the COCO file.
        categories: of the COCO file.
        seed: of the scribbles, which depend on it and on the annotation's id alone.
        per_sentence: whether every caption has an entry of its own.
    """

    schema: KeypointSchema
    order: Sequence[int]
    categories: Categories
    seed: int
    per_sentence: bool = False

    def __call__(self, job: Job) -> Converted:
        """Check a person's fields as the data set does, draw scribbles, write the entries."""
        annotation = json.loads(job.annotation)
        try:
            fields = self._fields(annotation, job)
        except FieldError as error:
            return Converted(problem=error.kind)
        numbered = [(job.annotation_id, job.captions)]
        if self.per_sentence:
            first = IDS_PER_PERSON * job.annotation_id
            singles = [(first + number, (text,)) for number, text in enumerate(job.captions)]
            numbered = [*singles] or [(first, ())]
        images = [self._image(job, entry_id, captions) for entry_id, captions in numbered]
        annotations = [{**fields, "id": i, "image_id": i} for i, _ in numbered]
        return Converted(tuple(map(json.dumps, images)), tuple(map(json.dumps, annotations)))

    def _fields(self, annotation: dict[str, Any], job: Job) -> dict[str, Any]:
        size = (job.image.height, job.image.width)
        if len(job.captions) > IDS_PER_PERSON:
            raise FieldError("too many captions", f"there are more than {IDS_PER_PERSON}")
        self.categories.require_person(annotation)
        refuse_crowd(annotation)
        counts, _ = parse_segmentation(annotation, size)
        parse_box(annotation, size)
        parse_area(annotation, size)
        keypoints = parse_keypoints(annotation, size, self.schema, self.order)
        random = Random(f"scribbles/{self.seed}/{job.annotation_id}")
        scribbles = draw_scribbles(decode_segmentation(counts, size), random, NUM_SCRIBBLES)
        given = annotation["keypoints"]
        return {
            **annotation,
            "category_id": PERSON,
            "iscrowd": 0,
            "num_keypoints": int((keypoints[:, 2] > 0).sum()),
            "keypoints": [value for k in self.order for value in given[3 * k : 3 * k + 3]],
            "scribble": scribbles.astype(int).ravel().tolist(),
            "coco_ann_id": job.annotation_id,
        }

    def _image(self, job: Job, entry_id: int, captions: tuple[str, ...]) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "id": entry_id,
            "file_name": job.image.file_name,
            "height": job.image.height,
            "width": job.image.width,
            **({"caption": captions[0]} if captions else {}),
            "captions": list(captions),
            "coco_image_id": job.image_id,
            **dict(job.image.source),
        }
        return {**entry, "caption_source": job.source} if captions else entry
