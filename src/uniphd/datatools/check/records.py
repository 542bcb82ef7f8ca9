"""The fields of one person, each checked as training checks it, and a few that it does not read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from uniphd.data.categories import Categories
from uniphd.data.geometry import Geometry, geometry_of
from uniphd.data.masks import mask_area
from uniphd.data.official import is_unlabelled
from uniphd.data.validation import (
    FieldError,
    parse_area,
    parse_box,
    parse_caption,
    parse_file_name,
    parse_keypoints,
    parse_other_captions,
    parse_scribbles,
    parse_segmentation,
    parse_size,
    refuse_crowd,
    shown,
)
from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.pairs import Pair
from uniphd.datatools.check.texts import text_flaws
from uniphd.keypoints import KeypointSchema
from uniphd.plain_values import Size

_Value = TypeVar("_Value")

_LEAST_SIDE = 2  # pixels of a mask
_SCRIBBLE_PROMPTS = ("point", "scribble")


@dataclass(frozen=True)
class Form:
    """What the people of a file look like.

    Attributes:
        schema: the K keypoints.
        order: where they stand in the file; None where it has others.
        categories: of the file.
        coco: whether it is in COCO's form, without captions and scribbles.
    """

    schema: KeypointSchema
    order: Sequence[int] | None
    categories: Categories
    coco: bool


@dataclass
class Record:
    """A person as far as the fields are right.

    Attributes:
        pair: the entries.
        findings: what is wrong with the fields.
        file_name: of the image, in one notation.
        size: (height, width) that the entry states.
        geometry: the numbers; None where there is no mask.
        keypoints: (K, 3), where they are right.
        caption: where it is right.
    """

    pair: Pair
    findings: list[Finding] = field(default_factory=list)
    file_name: str | None = None
    size: Size | None = None
    geometry: Geometry | None = None
    keypoints: npt.NDArray[np.float32] | None = None
    caption: str | None = None

    @property
    def segmentation(self) -> dict[str, Any]:
        """The mask as pycocotools takes it; for records that have one."""
        assert self.geometry is not None
        return {"size": list(self.geometry.size), "counts": self.geometry.counts}

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.findings


def check_record(pair: Pair, file: str, form: Form) -> Record:
    """Check the fields of a person, all of them.

    What depends on the image's size or on the mask is not looked at where that is wrong.

    Args:
        pair: the entries.
        file: its name, for findings.
        form: of the file's people.
    """
    return _RecordCheck(pair, file, form).run()


class _RecordCheck:
    def __init__(self, pair: Pair, file: str, form: Form) -> None:
        self.pair, self.file, self.form = pair, file, form
        self.record = Record(pair)

    def run(self) -> Record:
        record, image, annotation = self.record, self.pair.image, self.pair.annotation
        record.file_name = self._try("file_name", image, lambda: parse_file_name(image))
        if isinstance(image.get("file_name"), str) and "\\" in image["file_name"]:
            self._found("backslash", "file_name", image["file_name"])
        self._texts()
        self._try(
            "category_id", annotation, lambda: self.form.categories.require_person(annotation)
        )
        self._try("iscrowd", annotation, lambda: refuse_crowd(annotation))
        record.size = self._try("height", image, lambda: parse_size(image))
        if record.size is not None:
            self._shape(record.size)
        return record

    def _texts(self) -> None:
        image = self.pair.image
        if self.form.coco:
            return
        caption = self._try("caption", image, lambda: parse_caption(image))
        if caption is None:
            return
        others = self._try("captions", image, lambda: parse_other_captions(image, caption))
        self.record.caption = caption
        for name, text in [("caption", caption), *(("captions", each) for each in others or ())]:
            for kind, note in text_flaws(text):
                self._found(kind, name, text, note)

    def _shape(self, size: Size) -> None:
        """Mask, box, area, keypoints and scribbles, which lie in the image."""
        record, annotation = self.record, self.pair.annotation
        mask = self._try("segmentation", annotation, lambda: parse_segmentation(annotation, size))
        self._try("bbox", annotation, lambda: parse_box(annotation, size))
        self._try("area", annotation, lambda: parse_area(annotation, size))
        self._keypoints(size)
        if mask is None:
            return
        counts, runs = mask
        if not self.form.coco:
            self._try(
                "scribble",
                annotation,
                lambda: parse_scribbles(annotation, size, runs, _SCRIBBLE_PROMPTS),
            )
        record.geometry = geometry_of(
            self.pair.image["id"],
            annotation,
            len(self.form.schema),
            size,
            record.file_name or "",
            counts,
        )
        width, height = _extent(counts, size)
        if min(width, height) < _LEAST_SIDE:
            self._found("degenerate mask", "segmentation", f"{width:g} x {height:g} pixels")
        elif not mask_area(runs):
            self._found("empty mask", "segmentation", "")

    def _keypoints(self, size: Size) -> None:
        annotation, form = self.pair.annotation, self.form
        order = form.order
        if order is None or (form.coco and is_unlabelled(annotation)):
            return
        if form.coco and annotation.get("keypoints") in (None, []):
            return
        keypoints = self._try(
            "keypoints", annotation, lambda: parse_keypoints(annotation, size, form.schema, order)
        )
        if keypoints is None:
            return
        self.record.keypoints = keypoints
        labelled = keypoints[:, 2] > 0
        at_origin = labelled & (keypoints[:, :2] == 0).all(1)
        if at_origin.any():
            names = [form.schema.names[index] for index in np.flatnonzero(at_origin)]
            self._found("labelled keypoint at (0, 0)", "keypoints", ", ".join(names))
        stated, counted = annotation.get("num_keypoints"), int(labelled.sum())
        if stated != counted:
            note = f"{counted} are labelled"
            self._found("num_keypoints", "num_keypoints", shown(stated), note)

    def _try(self, name: str, entry: Any, parse: Callable[[], _Value]) -> _Value | None:
        """What a field holds, or None and a finding."""
        try:
            return parse()
        except FieldError as error:
            self._found(error.kind, name, shown(entry.get(name)), str(error))
            return None

    def _found(self, kind: str, name: str, value: str, note: str = "") -> None:
        self.record.findings.append(
            self.pair.finding(kind, self.file, field=name, value=shown_text(value), note=note)
        )


def shown_text(value: str) -> str:
    """A text of a file in a table: not longer than a line."""
    return value if len(value) <= 100 else f"{value[:97]}..."


def _extent(counts: bytes, size: Size) -> tuple[float, float]:
    from pycocotools import mask as coco_mask

    box = coco_mask.toBbox([{"size": list(size), "counts": counts}])[0]
    return float(box[2]), float(box[3])
