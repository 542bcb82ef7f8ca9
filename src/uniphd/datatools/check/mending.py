"""The state of an annotation file while it is mended, with a log of every change."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from uniphd.data.masks import Mask, decode_segmentation
from uniphd.data.validation import FieldError, is_id, parse_segmentation, parse_size, shown
from uniphd.datatools.check.files import DataFile
from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.image_files import ImageFile, ImageKey, look_at_images
from uniphd.datatools.check.records import Form
from uniphd.plain_values import Size

Box: TypeAlias = tuple[float, float, float, float]

_OTHER_PLACES = {"images": "image_place", "annotations": "annotation_place"}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a file, as the log has it.

    Attributes:
        file: the annotation file.
        kind: of the problem.
        where: the ids.
        field: that is changed; empty where an entry is left out.
        before: its value, short.
        after: its value, short.
        dropped: whether an entry is left out, since nobody knows the right value.
    """

    file: str
    kind: str
    where: str
    field: str
    before: str
    after: str
    dropped: bool = False


@dataclass
class Mending:
    """A file that is being mended.

    Attributes:
        file: whose content is changed.
        form: of its people.
        images: what is known of the image files; see `image`.
        log: of the changes.
        rewritten: images that are stored anew, and how: "upright" or "untagged".
        left_out: why the file as a whole cannot be mended; empty where it can.
    """

    file: DataFile
    form: Form
    images: dict[ImageKey, ImageFile]
    log: list[Change]
    rewritten: dict[ImageKey, str]
    left_out: str = ""
    _dropped: dict[str, set[int]] = field(
        default_factory=lambda: {"images": set(), "annotations": set()}
    )
    _next_ids: dict[str, int] = field(default_factory=dict)
    _places: dict[tuple[str, str], dict[Any, list[int]]] = field(default_factory=dict)
    _first_names: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """Of the file."""
        assert self.file.content is not None
        return self.file.content

    def entry(self, finding: Finding, name: str) -> dict[str, Any]:
        """The entry of `images` or `annotations` that a finding is about."""
        place = getattr(finding, _OTHER_PLACES[name])
        entry: dict[str, Any] = self.content[name][place]
        return entry

    def is_dropped(self, finding: Finding) -> bool:
        """Whether an entry that it is about is left out already."""
        return (
            finding.image_place in self._dropped["images"]
            or finding.annotation_place in self._dropped["annotations"]
        )

    def set(self, finding: Finding, name: str, **values: Any) -> bool:
        """Set fields of the entry of `images` or `annotations` that a finding is about."""
        entry = self.entry(finding, name)
        for key, value in values.items():
            if key not in entry or not _same(entry[key], value):
                before = shown(entry[key]) if key in entry else "missing"
                self.note(finding, key, before, shown(value))
                entry[key] = value
        return True

    def note(self, finding: Finding, key: str, before: str, after: str) -> None:
        """Put a change into the log."""
        self.log.append(Change(finding.file, finding.kind, finding.where, key, before, after))

    def drop(self, finding: Finding) -> None:
        """Leave out the entries that a finding is about."""
        self.log.append(
            Change(finding.file, finding.kind, finding.where, "", finding.value, "dropped", True)
        )
        if finding.annotation_place is not None:
            self._dropped["annotations"].add(finding.annotation_place)
        if finding.image_place is not None and (
            finding.annotation_place is None or not self.form.coco
        ):
            self._dropped["images"].add(finding.image_place)

    def drop_id(self, finding: Finding) -> None:
        """Leave out whatever has the image id of a finding."""
        for place in self.places("images", "id", finding.image_id):
            self.drop(replace(finding, image_place=place, annotation_place=None))
        for place in self.places("annotations", "image_id", finding.image_id):
            self.drop(replace(finding, image_place=None, annotation_place=place))

    def places(self, name: str, key: str, value: Any) -> list[int]:
        """Where entries of a list have a value; as the list was when the round of mending began."""
        if (name, key) not in self._places:
            places: dict[Any, list[int]] = defaultdict(list)
            for place, entry in enumerate(self.content[name]):
                if isinstance(entry, dict):
                    places[_hashable(entry.get(key))].append(place)
            self._places[name, key] = places
        return self._places[name, key].get(_hashable(value), [])

    def forget_dropped(self) -> None:
        """Take what is left out from the content; places of findings are not valid any more."""
        gone: dict[str, list[Any]] = {}
        for name, places in self._dropped.items():
            entries = self.content[name]
            self.content[name] = [e for place, e in enumerate(entries) if place not in places]
            gone[name] = [entries[place] for place in places if isinstance(entries[place], dict)]
            places.clear()
        if not self.form.coco:
            self._forget_what_belongs_to(gone["images"], gone["annotations"])

    def _forget_what_belongs_to(self, images: list[Any], annotations: list[Any]) -> None:
        """Take annotations whose image is left out, and images whose person is."""
        left = {shown(e.get("id")) for e in self.content["images"] if isinstance(e, dict)}
        lost = {shown(entry.get("id")) for entry in images} - left
        people = [e for e in self.content["annotations"] if isinstance(e, dict)]
        self.content["annotations"] = [e for e in people if shown(e.get("image_id")) not in lost]
        left = {shown(entry.get("image_id")) for entry in self.content["annotations"]}
        lost = {shown(entry.get("image_id")) for entry in annotations} - left
        entries = [e for e in self.content["images"] if isinstance(e, dict)]
        self.content["images"] = [e for e in entries if shown(e.get("id")) not in lost]

    def new_id(self, name: str) -> int:
        """An id that no entry of `images` or `annotations` has."""
        if name not in self._next_ids:
            entries = [entry for entry in self.content[name] if isinstance(entry, dict)]
            ids = (entry.get("id") for entry in entries)
            self._next_ids[name] = max((int(i) for i in ids if i and is_id(i)), default=0)
        self._next_ids[name] += 1
        return self._next_ids[name]

    def size(self, finding: Finding) -> Size | None:
        """(height, width) that the entry states; None where it is wrong."""
        try:
            return parse_size(self.entry(finding, "images"))
        except FieldError:
            return None

    def counts(self, finding: Finding) -> bytes | None:
        """The mask as it stands now; None where it is wrong."""
        size = self.size(finding)
        if size is None:
            return None
        try:
            return parse_segmentation(self.entry(finding, "annotations"), size)[0]
        except FieldError:
            return None

    def mask(self, finding: Finding) -> Mask | None:
        """The mask (h, w) as it stands now; None where it is wrong."""
        counts, size = self.counts(finding), self.size(finding)
        return None if counts is None or size is None else decode_segmentation(counts, size)

    def mask_box(self, finding: Finding) -> Box | None:
        """x, y, width, height of the mask; None where it is wrong."""
        counts, size = self.counts(finding), self.size(finding)
        if counts is None or size is None:
            return None
        x, y, w, h = coco_mask.toBbox([{"size": list(size), "counts": counts}])[0].tolist()
        return x, y, w, h

    def keypoints(self, finding: Finding) -> npt.NDArray[np.float64] | None:
        """(K, 3) as they stand, in the file's order; None where they are no such list."""
        values = self.entry(finding, "annotations").get("keypoints")
        if not isinstance(values, list) or len(values) != 3 * len(self.form.schema):
            return None
        if not all(type(value) in (int, float) for value in values):
            return None
        try:
            return np.array(values, dtype=np.float64).reshape(-1, 3)
        except OverflowError:
            return None

    def set_keypoints(self, finding: Finding, keypoints: npt.NDArray[np.float64]) -> bool:
        """Set keypoints (K, 3), and how many are labelled; False where none is."""
        labelled = keypoints[:, 2] > 0
        if not labelled.any():
            return False
        values = [plain_number(value) for value in (keypoints * labelled[:, None]).ravel()]
        return self.set(finding, "annotations", keypoints=values, num_keypoints=int(labelled.sum()))

    def first_name(self, digest: str) -> str:
        """The first of the names in the image folder that have the same bytes."""
        if not self._first_names:
            for (folder, _), image in self.images.items():
                if folder == self.file.images and image.digest:
                    first = self._first_names.setdefault(image.digest, image.name)
                    self._first_names[image.digest] = min(first, image.name)
        return self._first_names[digest]

    def image(self, name: str) -> ImageFile:
        """What is known of an image; it is looked at where nothing is known yet."""
        key = (self.file.images, name)
        if key not in self.images:
            self.images.update(look_at_images([key], 1, lambda: None))
        return self.images[key]


def plain_number(value: float) -> int | float:
    """A number as JSON shows it shortest: hundredths, and integers without a point."""
    rounded = round(float(value), 2)
    return int(rounded) if rounded == int(rounded) else rounded


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else shown(value)


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and json.dumps(first) == json.dumps(second)
