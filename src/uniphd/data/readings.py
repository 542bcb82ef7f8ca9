"""What coordinates seem to hold where it is not what COCO says: other orders, units and origins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_UNITS = {
    "": 0,
    " in fractions of the image": 1,
    " in per cent of the image": 100,
    " in thousandths of the image": 1000,
}
_FITTING_IOU = 0.8
_FITTING_SHARE = 0.8  # of a person's points
_MARGIN, _MARGIN_PIXELS = 0.1, 2.0  # a box is grown by a tenth of its sides and by these
_LEAST_EXTENT = 0.3  # of a side of the mask's box
_LEAST_PEOPLE = 3  # to know a scale from
_TINY = 1e-6


def box_readings(boxes: Numbers, sizes: Numbers, masks: Numbers) -> Iterator[tuple[str, Flags]]:
    """How boxes fit the boxes of their masks when they are read otherwise.

    Args:
        boxes: (N, 4), as a file has them where x, y, width, height belong.
        sizes: (N, 2) width, height of the images.
        masks: (N, 4) x1, y1, x2, y2 of the masks.

    Yields:
        The name of a reading, and (N,) whether it fits.
    """
    x, y, w, h = boxes.T
    width, height = sizes.T
    forms = {
        "x1, y1, x2, y2": (x, y, w, h),
        "centre x, centre y, width, height": (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
        "y, x, height, width": (y, x, y + h, x + w),
        "y1, x1, y2, x2": (y, x, h, w),
        "x, y, width, height": (x, y, x + w, y + h),
    }
    for unit, parts in _UNITS.items():
        scale = np.tile(sizes / parts, 2) if parts else 1.0
        for name, corners in forms.items():
            yield f"{name}{unit}", overlap(np.stack(corners, 1) * scale, masks) > _FITTING_IOU
    mirrored = np.stack([width - x - w, y, width - x, y + h], 1)
    yield "x, y, width, height of the mirrored image", overlap(mirrored, masks) > _FITTING_IOU
    turned = np.stack([x, height - y - h, x + w, height - y], 1)
    yield "x, y, width, height from the bottom", overlap(turned, masks) > _FITTING_IOU
    whole = np.hstack([np.zeros_like(sizes), sizes])
    yield "the whole image", overlap(corners_of(boxes), whole) > _FITTING_IOU
    scale = (masks[:, 2:] - masks[:, :2]) / boxes[:, 2:].clip(_TINY)
    fits = overlap(corners_of(boxes) * np.tile(scale, 2), masks) > _FITTING_IOU
    yield f"those of images {_times(scale[fits])} as large", fits


def point_readings(points: Numbers, sizes: Numbers, masks: Numbers) -> Iterator[tuple[str, Flags]]:
    """How points lie on the boxes of their masks when they are read otherwise; see `point_forms`.

    Yields:
        The name of a reading, and (N,) whether it fits.
    """
    yield "one and the same point", _extent(points).max(1) == 0
    for name, form in point_forms(points, sizes, masks):
        yield name, _fits(form, masks)


def point_forms(points: Numbers, sizes: Numbers, masks: Numbers) -> Iterator[tuple[str, Numbers]]:
    """Points in pixels, as what they may be instead of that.

    Args:
        points: (N, P, 2), as a file has them where x, y belong; NaN where there is none.
        sizes: (N, 2) width, height of the images.
        masks: (N, 4) x1, y1, x2, y2 of the masks.

    Yields:
        The name of a reading, and the points (N, P, 2) read so.
    """
    image, corner = sizes[:, None], masks[:, None, :2]
    extent = masks[:, None, 2:] - corner
    for unit, parts in _UNITS.items():
        scale = image / parts if parts else 1.0
        yield f"y, x{unit}", points[..., ::-1] * scale
        yield f"x, y{unit}", points * scale
    yield "x, y from the corner of the box", points + corner
    yield "x, y in fractions of the box", points * extent + corner
    yield "x, y of the mirrored image", image * (1, 0) + points * (-1, 1)
    yield "x, y from the bottom", image * (0, 1) + points * (1, -1)
    if len(points) < _LEAST_PEOPLE:
        return
    middle = np.nanmean(points, axis=1).clip(_TINY)
    scales = (masks[:, :2] + masks[:, 2:]) / 2 / middle
    scale, resized = np.median(scales, axis=0), np.median(scales / sizes, axis=0)
    yield f"those of images {_times(scale)} as large", points * scale
    yield "those of images resized to one size", points * (sizes * resized)[:, None]


def corners_of(boxes: Numbers) -> Numbers:
    """x1, y1, x2, y2 of boxes (N, 4) x, y, width, height."""
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def overlap(first: Numbers, second: Numbers) -> Numbers:
    """(N,) intersection over union of two lists of corners (N, 4); 0 where one is no box."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    common = sides.clip(0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).clip(0).prod(1) for box in (first, second)]
    union = areas[0] + areas[1] - common
    ratio = np.divide(common, union, out=np.zeros_like(union), where=union > 0)
    return np.asarray(np.nan_to_num(ratio))


def share_inside(points: Numbers, boxes: Numbers) -> Numbers:
    """(N,) share of the points (N, P, 2) in a box grown by a tenth; NaN where there is no point."""
    margin = (boxes[:, 2:] - boxes[:, :2]) * _MARGIN + _MARGIN_PIXELS
    low, high = boxes[:, :2] - margin, boxes[:, 2:] + margin
    inside = ((points >= low[:, None]) & (points <= high[:, None])).all(-1).sum(1)
    number = np.isfinite(points).all(-1).sum(1)
    share = np.divide(inside, number, out=np.full(len(points), np.nan), where=number > 0)
    return np.asarray(share)


def _fits(points: Numbers, masks: Numbers) -> Flags:
    """Whether points lie on a box and go over a good part of it."""
    spread = _extent(points) >= _LEAST_EXTENT * (masks[:, 2:] - masks[:, :2])
    return np.asarray((share_inside(points, masks) >= _FITTING_SHARE) & spread.any(1))


def _extent(points: Numbers) -> Numbers:
    return np.asarray(np.nanmax(points, axis=1) - np.nanmin(points, axis=1))


def _times(scale: Numbers) -> str:
    """The usual factor from what a file has to pixels, the other way round."""
    return f"{float(f'{1 / np.median(scale):.2g}'):g} times" if scale.size else "otherwise"
