"""RefHuman annotation files: JSON in, validated instances out.

The format is COCO's with one entry of `images` per referred person: the same image appears
under several image ids, each with exactly one annotation and one caption.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from uniphd.data.categories import Categories, keypoint_order, parse_categories
from uniphd.data.contradictions import contradiction_problems
from uniphd.data.geometry import Geometry, read_geometry
from uniphd.data.json_file import read_json
from uniphd.data.masks import Mask, decode_segmentation
from uniphd.data.official import select_as_official
from uniphd.data.problems import OnError, Problem, raise_or_log, unusable_ids
from uniphd.data.validation import (
    FieldError,
    is_id,
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
from uniphd.errors import AnnotationError
from uniphd.keypoints import COCO17, KeypointSchema
from uniphd.plain_values import Size

_Entry: TypeAlias = Mapping[str, Any]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ReferredPerson:
    """One person that a caption refers to, as the file states it (raw pixels of the image).

    Attributes:
        image_id: unique per referred person, not per image.
        annotation_id: unique id of the annotation.
        file_name: path of the image inside the image folder, in one notation for all its rows.
        height: of the image, pixels.
        width: of the image, pixels.
        caption: the text prompt; empty for a person without text.
        bbox: x, y, width, height; at most one pixel of it lies outside of the image.
        area: of the mask in square pixels, COCO's value, which the evaluation uses.
        keypoints: (K, 3) float32 x, y, v with v 0 = not labelled, 1 = hidden, 2 = visible.
        counts: the mask as compressed COCO run lengths, whatever notation the file has.
        scribbles: (5, 12, 2) int32 x, y, all on the mask; (0, 12, 2) where the file has none and
            no prompt is made of them.
        other_captions: further captions of the person, where the file has the list `captions`;
            training draws one of all, the evaluation takes `caption`.
        schema: which K keypoints these are.
    """

    image_id: int
    annotation_id: int
    file_name: str
    height: int
    width: int
    caption: str
    bbox: tuple[float, float, float, float]
    area: float
    keypoints: npt.NDArray[np.float32]
    counts: bytes
    scribbles: npt.NDArray[np.int32]
    other_captions: tuple[str, ...] = ()
    schema: KeypointSchema = COCO17

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        return self.height, self.width

    @property
    def captions(self) -> tuple[str, ...]:
        """All captions; none for a person without text."""
        return tuple(filter(None, (self.caption, *self.other_captions)))

    @property
    def num_keypoints(self) -> int:
        """How many keypoints are labelled, hidden ones included."""
        return int((self.keypoints[:, 2] > 0).sum())

    @property
    def segmentation(self) -> dict[str, Any]:
        """The mask as pycocotools takes it: `{"size": [h, w], "counts": bytes}`."""
        return {"size": [self.height, self.width], "counts": self.counts}

    def mask(self) -> Mask:
        """The mask (h, w) uint8, 1 on the person; drawn anew by every call."""
        return decode_segmentation(self.counts, self.size)


@dataclass(frozen=True)
class AnnotationFile:
    """The valid instances of a file, ordered by image id, and what was wrong with the others."""

    instances: tuple[ReferredPerson, ...]
    skipped: tuple[Problem, ...]


def load_annotations(
    path: Path | str,
    on_error: OnError = "raise",
    schema: KeypointSchema = COCO17,
    scribble_prompts: Sequence[str] = ("point", "scribble"),
    verify_fields: bool = True,
    text_prompts: bool = True,
) -> AnnotationFile:
    """Read and validate a RefHuman annotation file.

    What the official loader leaves out is left out and counted in a warning; see
    `uniphd.data.official`.

    Args:
        path: `RefHuman_train.json` or `RefHuman_val.json`.
        on_error: "raise" stops at a file with problems and lists the first ten of them; "skip"
            leaves the people concerned out, logs how many of each kind, and returns what was found.
        schema: which keypoints the records shall have. Where the file's `categories` names the
            same ones in another order, they are put into the set's. A category called "person"
            says which id people have.
        scribble_prompts: the kinds of prompt that are made of the file's scribbles. With none,
            people may lack them.
        verify_fields: whether to compare box, area, keypoints and scribbles with the mask. Single
            people who contradict themselves are warned of, or with "skip" left out.
        text_prompts: whether prompts are made of captions. Without, people may lack them; with,
            only those whose entry says `"captions": []`.

    Raises:
        AnnotationError: the file is missing, is not JSON, lacks its two lists, has other keypoints,
            no category of people or no valid record, or its fields contradict each other in the
            file as a whole; with "raise" also when any record has a problem.
    """
    path = Path(path)
    content = _read(path)
    problems: list[Problem] = []
    categories = parse_categories(content, str(path))
    parse = partial(
        _parse,
        schema=schema,
        order=keypoint_order(categories, schema, str(path)),
        categories=categories,
        scribble_prompts=scribble_prompts,
        text_prompts=text_prompts,
    )
    unparsed: list[tuple[_Entry, _Entry]] = []
    instances = list(_collect(content, str(path), problems, unparsed, parse))
    if verify_fields:
        rest = [read_geometry(*entries, len(schema)) for entries in unparsed]
        geometries = [*map(_geometry, instances), *filter(None, rest)]
        problems += contradiction_problems(geometries, str(path), on_error, unusable_ids(problems))
    raise_or_log(problems, on_error, AnnotationError, str(path))
    unusable = unusable_ids(problems)
    instances = [person for person in instances if person.image_id not in unusable]
    if not instances:
        raise AnnotationError(f"{path} has no valid record; use a file that has one.")
    return AnnotationFile(tuple(instances), tuple(p for p in problems if not p.is_warning))


def _geometry(person: ReferredPerson) -> Geometry:
    return Geometry(
        image_id=person.image_id,
        file_name=person.file_name,
        size=person.size,
        counts=person.counts,
        bbox=np.array(person.bbox),
        area=person.area,
        keypoints=person.keypoints,
        scribbles=person.scribbles.reshape(-1, 2) if person.scribbles.size else None,
    )


def _read(path: Path) -> _Entry:
    """The JSON object of a file, with its lists `images` and `annotations`."""
    content = read_json(path)
    for name in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise AnnotationError(f"{path} has no list '{name}'; use a RefHuman annotation file.")
    return dict(content)


def _collect(
    content: _Entry,
    file: str,
    problems: list[Problem],
    unparsed: list[tuple[_Entry, _Entry]],
    parse: Callable[[_Entry, _Entry], ReferredPerson],
) -> Iterator[ReferredPerson]:
    """Pair images with annotations; yield valid instances by image id.

    What is wrong is appended to `problems`, and entries that are to `unparsed`.
    """
    selection = select_as_official(
        _by_id(content["images"], "images", "id", file, problems),
        _by_id(content["annotations"], "annotations", "image_id", file, problems),
    )
    if selection.left_out:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in selection.left_out.most_common())
        _logger.warning("%s: left out, as the official loader does: %s", file, kinds)
    repeated = _repeated_annotation_ids(chain.from_iterable(selection.annotations.values()))
    for image_id, images in sorted(selection.images.items()):
        try:
            pair = _pair(images, selection.annotations[image_id], repeated)
            unparsed.append(pair)
            yield parse(*pair)
            unparsed.pop()
        except FieldError as error:
            where = f"{file}, image id {image_id}{error.annotation}"
            problems.append(Problem(error.kind, f"{where}: {error}.", (image_id,)))


def _by_id(
    entries: list[Any], name: str, key: str, file: str, problems: list[Problem]
) -> dict[int, list[_Entry]]:
    """Group the entries of one of the two lists by their image id."""
    groups: dict[int, list[_Entry]] = defaultdict(list)
    for position, entry in enumerate(entries):
        if isinstance(entry, dict) and is_id(entry.get(key)):
            groups[entry[key]].append(entry)
        else:
            message = f"{file}, {name}[{position}]: '{key}' is missing or no integer; give one."
            problems.append(Problem("missing id", message))
    return groups


def _repeated_annotation_ids(entries: Iterable[_Entry]) -> frozenset[Any]:
    ids = (entry.get("id") for entry in entries)
    counts = Counter(value for value in ids if is_id(value))
    return frozenset(value for value, count in counts.items() if count > 1)


def _pair(
    images: Sequence[_Entry], annotations: Sequence[_Entry], repeated: frozenset[Any]
) -> tuple[_Entry, _Entry]:
    """The one image entry and the one annotation of an image id."""
    if len(images) > 1:
        raise FieldError("repeated image id", f"'images' has this id {len(images)} times; keep one")
    if len(annotations) > 1:
        ids = ", ".join(shown(entry.get("id")) for entry in annotations[:5])
        raise FieldError(
            "several annotations",
            f"'annotations' has {len(annotations)} for it (ids {ids}); give every person an "
            "image id of its own",
        )
    annotation_id = annotations[0].get("id")
    if not is_id(annotation_id):
        raise FieldError(
            "missing id", "the 'id' of its annotation is missing or no integer; give one"
        )
    if annotation_id in repeated:
        raise FieldError(
            "repeated annotation id",
            f"'annotations' has the id {annotation_id} more than once; make ids unique",
        )
    return images[0], annotations[0]


def _parse(
    image: _Entry,
    annotation: _Entry,
    schema: KeypointSchema,
    order: Sequence[int],
    categories: Categories,
    scribble_prompts: Sequence[str],
    text_prompts: bool,
) -> ReferredPerson:
    """Check every field, and the fields against each other."""
    try:
        size = parse_size(image)
        file_name, caption = parse_file_name(image), parse_caption(image, text_prompts)
        categories.require_person(annotation)
        refuse_crowd(annotation)
        counts, runs = parse_segmentation(annotation, size)
        return ReferredPerson(
            image_id=image["id"],
            annotation_id=annotation["id"],
            file_name=file_name,
            height=size[0],
            width=size[1],
            caption=caption,
            bbox=parse_box(annotation, size),
            area=parse_area(annotation, size),
            keypoints=parse_keypoints(annotation, size, schema, order),
            counts=counts,
            scribbles=parse_scribbles(annotation, size, runs, scribble_prompts),
            other_captions=parse_other_captions(image, caption),
            schema=schema,
        )
    except FieldError as error:
        error.annotation = f", annotation id {annotation['id']}"
        raise
