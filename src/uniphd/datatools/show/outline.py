"""Masks as polygons of few corners, to be drawn on a page."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from contourpy import LineType, contour_generator
from pycocotools import mask as coco_mask

from uniphd.data.masks import decode_segmentation
from uniphd.structures import Size

Polygon: TypeAlias = npt.NDArray[np.float64]
"""(P, 2) corners x, y in pixels of the image; the last is joined with the first."""

_LARGEST_CROP = 400  # pixels of a side; larger masks are thinned out before their outline is found


def mask_outlines(counts: bytes, size: Size, tolerance: float) -> list[Polygon]:
    """The outlines of a mask and of its holes, to be filled by the even-odd rule.

    Args:
        counts: the mask as compressed COCO run lengths.
        size: (height, width) of the mask.
        tolerance: pixels that the polygons may be off. Smaller pieces are left out unless there
            are no others.
    """
    runs = {"size": list(size), "counts": counts}
    left, top, width, height = (int(value) for value in coco_mask.toBbox(runs).tolist())
    if not width or not height:
        return []
    step = max(1, -(-max(width, height) // _LARGEST_CROP))
    crop = decode_segmentation(counts, size)[top : top + height : step, left : left + width : step]
    values = np.pad(crop.astype(np.float64), 1)
    lines = contour_generator(z=values, line_type=LineType.Separate).lines(0.5)
    # The centre of pixel 0 of the crop stands at 1 in the padded one.
    rings = [(np.asarray(line) - 1) * step + (left + 0.5, top + 0.5) for line in lines]
    polygons = [simplify(ring[:-1], tolerance) for ring in rings]
    large = [polygon for polygon in polygons if len(polygon) > 2 and _area(polygon) > tolerance**2]
    return large or [max(rings, key=_area)[:-1]]


def simplify(ring: Polygon, tolerance: float) -> Polygon:
    """A closed polygon with as few corners as Douglas and Peucker's rule needs.

    Args:
        ring: (P, 2) at least one corner.
        tolerance: how far a corner that is left out may be from the line in its place.

    Returns:
        Some of the corners, in their order.
    """
    closed = np.vstack([ring, ring[:1]])
    farthest = int(np.hypot(*(ring - ring[0]).T).argmax())
    kept = np.zeros(len(closed), dtype=bool)
    kept[[0, farthest, -1]] = True
    pending = [(0, farthest), (farthest, len(closed) - 1)]
    while pending:
        start, end = pending.pop()
        if end - start < 2:
            continue
        distances = _distances(closed[start + 1 : end], closed[start], closed[end])
        middle = int(distances.argmax())
        if distances[middle] > tolerance:
            middle += start + 1
            kept[middle] = True
            pending += [(start, middle), (middle, end)]
    return np.asarray(ring[kept[:-1]])


def _distances(points: Polygon, start: Polygon, end: Polygon) -> npt.NDArray[np.float64]:
    """(P,) of points from the line through two others, or from the one where they are equal."""
    along, off = end - start, points - start
    length = float(np.hypot(*along))
    if length == 0:
        return np.asarray(np.hypot(*off.T))
    return np.asarray(np.abs(along[0] * off[:, 1] - along[1] * off[:, 0]) / length)


def _area(polygon: Polygon) -> float:
    x, y = polygon.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
