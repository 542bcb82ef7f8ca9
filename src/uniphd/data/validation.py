"""The fields of one RefHuman record: each function returns one field's value or says its error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from reprlib import Repr
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from uniphd.data.masks import (
    SegmentationError,
    encode_segmentation,
    mask_area,
    mask_contains,
    run_lengths,
)
from uniphd.keypoints import KeypointSchema
from uniphd.plain_values import Size

NUM_SCRIBBLES, SCRIBBLE_POINTS = 5, 12
"""RefHuman: five scribbles of twelve points per person."""

MAX_PIXELS = 178_956_970
"""Pillow's limit against decompression bombs; a larger image is refused."""

_BORDER = 1.0
"""Pixels that a box or keypoint may lie outside of the image: COCO rounds to hundredths."""

_LEAST_EXTENT = 0.01
"""Pixels of a box's sides on the image; COCO's last digit."""

_LONGEST_SHOWN = 100  # characters

_LARGEST_ID = 2**63 - 1
"""Ids travel in tensors of int64."""


class FieldError(Exception):
    """What is wrong with one record: a short kind, and a clause that says what and what to do."""

    def __init__(self, kind: str, clause: str) -> None:
        super().__init__(clause)
        self.kind = kind
        self.annotation = ""


def shown(value: Any) -> str:
    """A value of a file as it stands in a message: short, however long or deep it is."""
    brief = Repr()
    brief.maxlevel, brief.maxstring, brief.maxlong = 2, 60, 25
    text = brief.repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def is_id(value: Any) -> TypeGuard[int]:
    """Whether a value of a file can be an id."""
    return type(value) is int and abs(value) <= _LARGEST_ID


def parse_size(image: Mapping[str, Any]) -> Size:
    """(height, width) of an entry of `images`."""
    height, width = _require(image, "height"), _require(image, "width")
    if type(height) is not int or type(width) is not int or height < 1 or width < 1:
        raise FieldError(
            "wrong size",
            f"'height' and 'width' are {shown(height)} and {shown(width)}; give two positive "
            "integers",
        )
    if height * width > MAX_PIXELS:
        raise FieldError(
            "wrong size",
            f"{shown(width)} x {shown(height)} is too large; scale the image down",
        )
    return height, width


def parse_file_name(image: Mapping[str, Any]) -> str:
    r"""The image's path inside the image folder, which it must not leave.

    All notations of a path give the same one: `./a//b.jpg` and `a\b.jpg` are `a/b.jpg`.
    """
    name = _text(image, "file_name")
    posix, windows = PurePosixPath(name.replace("\\", "/")), PureWindowsPath(name)
    if "\0" in name:
        raise FieldError("unsafe path", f"'file_name' {shown(name)} has a NUL; give a plain path")
    if posix.is_absolute() or windows.anchor or ".." in posix.parts:
        raise FieldError(
            "unsafe path",
            f"'file_name' {shown(name)} leaves the image folder; give a path inside of it",
        )
    return str(posix)


def parse_caption(image: Mapping[str, Any], text_prompts: bool = True) -> str:
    """The text that describes the person.

    Empty for a person without text, whose entry says `"captions": []` and has no `caption`.

    Args:
        image: an entry of `images`.
        text_prompts: whether prompts are made of captions; otherwise they may be missing.
    """
    if "caption" not in image and (not text_prompts or image.get("captions") == []):
        return ""
    return _text(image, "caption")


def parse_other_captions(image: Mapping[str, Any], caption: str) -> tuple[str, ...]:
    """What the optional list `captions` says beside `caption`; RefHuman's files have none."""
    captions = image.get("captions", [])
    if not isinstance(captions, list) or not all(_is_text(text) for text in captions):
        raise FieldError("wrong captions", f"'captions' is {shown(captions)}; give a list of texts")
    return tuple(text for text in dict.fromkeys(captions) if text.strip() and text != caption)


def refuse_crowd(annotation: Mapping[str, Any]) -> None:
    """Refuse the mask of several people."""
    if annotation.get("iscrowd", 0) != 0:
        raise FieldError(
            "crowd", f"'iscrowd' is {shown(annotation['iscrowd'])}; annotate a single person"
        )


def parse_area(annotation: Mapping[str, Any], size: Size) -> float:
    """The mask's area in square pixels."""
    value = _require(annotation, "area")
    if type(value) is float and not np.isfinite(value):
        raise FieldError("NaN or infinite number", f"'area' is {shown(value)}; correct it")
    if type(value) not in (int, float) or not 0 < value <= size[0] * size[1]:
        raise FieldError(
            "wrong area",
            f"'area' is {shown(value)}; give the mask's pixels, above 0 and at most "
            f"{size[0] * size[1]}",
        )
    return float(value)


def parse_box(annotation: Mapping[str, Any], size: Size) -> tuple[float, float, float, float]:
    """x, y, width, height; it has an area and lies on the image but for one pixel."""
    box = _numbers(annotation, "bbox", 4)
    x, y, width, height = box.tolist()
    if width <= 0 or height <= 0:
        raise FieldError("box without area", f"'bbox' {_brief(box)} has no area; correct it")
    right, bottom = size[1] - x - width, size[0] - y - height
    if min(x, y, right, bottom) < -_BORDER:
        raise FieldError(
            "box outside of the image",
            f"'bbox' {_brief(box)} leaves the {size[1]} x {size[0]} image; correct it",
        )
    on_image = min(x + width, size[1]) - max(x, 0), min(y + height, size[0]) - max(y, 0)
    if min(on_image) < _LEAST_EXTENT:
        raise FieldError(
            "box without area", f"'bbox' {_brief(box)} has no area on the image; correct it"
        )
    return x, y, width, height


def parse_keypoints(
    annotation: Mapping[str, Any], size: Size, schema: KeypointSchema, order: Sequence[int]
) -> npt.NDArray[np.float32]:
    """(K, 3) x, y, v; at least one is labelled, and those that are lie on the image.

    The others become 0, 0, 0, whatever the file has: a number beyond float32 would be infinite.

    Args:
        annotation: an entry of `annotations`.
        size: (height, width) of the image.
        schema: which K keypoints are wanted.
        order: where they stand in the file.
    """
    numbers = _numbers(annotation, "keypoints", 3 * len(schema))
    keypoints = numbers.reshape(-1, 3)[list(order)]
    points, visibility = keypoints[:, :2], keypoints[:, 2]
    other = ~np.isin(visibility, (0, 1, 2))
    if other.any():
        raise FieldError(
            "wrong visibility",
            f"'keypoints' has a visibility other than 0, 1, 2: {visibility[other][0]:g}; correct "
            "it, and give no scores but 1 for hidden and 2 for visible",
        )
    labelled = visibility > 0
    if not labelled.any():
        raise FieldError(
            "no keypoints", "'keypoints' has none that is labelled; label at least one"
        )
    outside = (points < -_BORDER) | (points > np.array(size[::-1]) + _BORDER)
    if outside[labelled].any():
        number = int(np.flatnonzero(outside.any(1) & labelled)[0])
        raise FieldError(
            "keypoint outside of the image",
            f"'keypoints' has the {schema.names[number]} at {_brief(points[number])}, outside "
            f"of the {size[1]} x {size[0]} image; correct it or set its visibility to 0",
        )
    return (keypoints * labelled[:, None]).astype(np.float32)


def parse_segmentation(
    annotation: Mapping[str, Any], size: Size
) -> tuple[bytes, npt.NDArray[np.int64]]:
    """The mask as compressed COCO run lengths and as numbers; at least one pixel is set."""
    segmentation = _require(annotation, "segmentation")
    try:
        counts = encode_segmentation(segmentation, size)
    except SegmentationError as error:
        raise FieldError(error.kind, f"'segmentation' {error}; correct it") from error
    except (ValueError, OverflowError) as error:
        raise FieldError("wrong segmentation", f"'segmentation' {error}; correct it") from error
    runs = run_lengths(counts)
    if mask_area(runs) == 0:
        raise FieldError(
            "empty mask",
            "'segmentation' covers no pixel; draw the person's mask, in pixels of the image",
        )
    return counts, runs


def parse_scribbles(
    annotation: Mapping[str, Any],
    size: Size,
    runs: npt.NDArray[np.int64],
    prompts: Sequence[str],
) -> npt.NDArray[np.int32]:
    """(5, 12, 2) x, y; the pixel of every point belongs to the mask, as in the official release.

    Where the annotation has none and no prompt needs them, (0, 12, 2).

    Args:
        annotation: an entry of `annotations`.
        size: (height, width) of the image.
        runs: the mask, from `parse_segmentation`.
        prompts: the kinds of prompt that are made of scribbles.
    """
    if annotation.get("scribble") in (None, []):
        if prompts:
            raise FieldError(
                "missing scribble",
                f"'scribble' is missing, of which {' and '.join(prompts)} prompts are made; add "
                "it, or ask for other prompts, such as prompt=text",
            )
        return np.zeros((0, SCRIBBLE_POINTS, 2), dtype=np.int32)
    numbers = _numbers(annotation, "scribble", NUM_SCRIBBLES * SCRIBBLE_POINTS * 2)
    scribbles = numbers.reshape(NUM_SCRIBBLES, SCRIBBLE_POINTS, 2)
    last = np.array(size[::-1]) - 1
    pixels: npt.NDArray[np.int32] = np.floor(scribbles.clip(0, last)).astype(np.int32)
    on_image = ((scribbles >= 0) & (scribbles < last + 1)).all(-1)
    on_mask = mask_contains(runs, size[0], pixels[..., 0], pixels[..., 1])
    inside = on_image & on_mask
    if not inside.all():
        stroke, point = np.argwhere(~inside)[0].tolist()
        raise FieldError(
            "scribble outside of the mask",
            f"'scribble' {stroke} has point {point} at {_brief(scribbles[stroke, point])}, outside "
            "of the mask; draw it anew",
        )
    return pixels


def _require(entry: Mapping[str, Any], name: str) -> Any:
    if name not in entry:
        raise FieldError(f"missing {name}", f"'{name}' is missing; add it")
    return entry[name]


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = _require(entry, name)
    if not _is_text(value):
        raise FieldError(f"wrong {name}", f"'{name}' is {shown(value)}, which is no text; give one")
    if not value.strip():
        raise FieldError(f"missing {name}", f"'{name}' is empty; write one")
    return value


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether a value is a string of characters; JSON can hold halves of surrogate pairs."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _numbers(entry: Mapping[str, Any], name: str, length: int) -> npt.NDArray[np.float64]:
    """A list of `length` finite numbers."""
    values = _require(entry, name)
    if not isinstance(values, list) or not set(map(type, values)) <= {int, float}:
        raise FieldError(f"wrong {name}", f"'{name}' is not a list of numbers; correct it")
    if len(values) != length:
        raise FieldError(f"wrong {name}", f"'{name}' has {len(values)} numbers and needs {length}")
    try:
        numbers = np.array(values, dtype=np.float64)
    except OverflowError:
        numbers = np.array([np.inf])
    if not np.isfinite(numbers).all():
        raise FieldError(
            "NaN or infinite number", f"'{name}' has a NaN or infinite number; correct it"
        )
    return numbers


def _brief(numbers: npt.NDArray[Any]) -> str:
    return "[" + ", ".join(f"{number:g}" for number in numbers.tolist()) + "]"
