"""Strokes drawn at random inside a mask, as RefHuman's scribbles were.

Four control points of the eroded mask, sorted by row, make a cubic Bezier curve; twelve of its
points, rounded down, are the scribble.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from random import Random

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uniphd.data.validation import SCRIBBLE_POINTS

_CURVE_STEPS = 100  # of which every twelfth part is kept: floor(k * 100 / 12), k = 1..12
_CONTROL_POINTS = 4

# Official release: a square of 10 pixels, 3 fewer whenever less than 50 pixels are left.
_EROSIONS = (10, 7, 4, 1)
_LEAST_PIXELS = 50
_ATTEMPTS = 10


def draw_scribble(mask: npt.NDArray[np.uint8], random: Random) -> npt.NDArray[np.float32]:
    """Draw a stroke whose twelve points all lie on the mask.

    The mask is eroded less and less until a curve stays inside. On a mask where none does (a thin
    or ragged one) the stroke shrinks to the pixel that is deepest inside.

    Args:
        mask: (h, w), above 0 on the person, at least one pixel.
        random: where the control points come from.

    Returns:
        (12, 2) x, y, whole numbers.
    """
    stroke: npt.NDArray[np.float32] = draw_scribbles(mask, random, 1)[0]
    return stroke


def draw_scribbles(
    mask: npt.NDArray[np.uint8], random: Random, count: int
) -> npt.NDArray[np.float32]:
    """Draw several strokes (count, 12, 2); see `draw_scribble`. The mask is eroded only once."""
    rows, columns = _extent(mask, margin=max(_EROSIONS))
    window = mask[rows, columns]
    origin = np.array([columns.start, rows.start], dtype=np.float32)
    pixels = cache(partial(_eroded_pixels, window))
    return np.stack([_draw_inside(window, pixels, random) for _ in range(count)]) + origin


def _eroded_pixels(window: npt.NDArray[np.uint8], erosion: int) -> npt.NDArray[np.intp]:
    """Flat places of the pixels that an erosion by a square leaves."""
    # Outside of the window counts as person: the border of the image does not erode.
    return np.flatnonzero(ndimage.minimum_filter(window, erosion, mode="constant", cval=1))


def _draw_inside(
    window: npt.NDArray[np.uint8],
    pixels: Callable[[int], npt.NDArray[np.intp]],
    random: Random,
) -> npt.NDArray[np.float32]:
    """One stroke (12, 2) inside a mask, whose pixels after an erosion `pixels` tells."""
    for erosion in _EROSIONS:
        stroke = _stroke_inside(window, pixels(erosion), random)
        if stroke is not None:
            return stroke
    y, x = _deepest_pixel(window)
    return np.tile(np.array([[x, y]], dtype=np.float32), (SCRIBBLE_POINTS, 1))


def _bezier_weights() -> npt.NDArray[np.float64]:
    """Weights (12, 4) of the control points in the kept points of a cubic Bezier curve."""
    steps = np.arange(1, SCRIBBLE_POINTS + 1) * _CURVE_STEPS // SCRIBBLE_POINTS
    t = (steps / _CURVE_STEPS)[:, None]
    s = 1 - t
    return np.hstack([s**3, 3 * s**2 * t, 3 * s * t**2, t**3])


_BEZIER_WEIGHTS = _bezier_weights()


def bezier(control: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The twelve kept points (12, 2) of the cubic Bezier curve through control points (4, 2)."""
    curve: npt.NDArray[np.float64] = _BEZIER_WEIGHTS @ control
    return curve


def on_mask(points: npt.NDArray[np.floating], mask: npt.NDArray[np.uint8]) -> bool:
    """Whether the pixels of all points (P, 2) belong to the mask (h, w)."""
    height, width = mask.shape
    x, y = np.floor(points).astype(np.int64).T
    if x.min() < 0 or y.min() < 0 or x.max() >= width or y.max() >= height:
        return False
    return bool((mask[y, x] > 0).all())


def _stroke_inside(
    mask: npt.NDArray[np.uint8], pixels: npt.NDArray[np.intp], random: Random
) -> npt.NDArray[np.float32] | None:
    """A stroke with control points among `pixels` that stays in `mask`, or None."""
    if len(pixels) < _LEAST_PIXELS:
        return None
    for _ in range(_ATTEMPTS):
        chosen = sorted(random.sample(range(len(pixels)), _CONTROL_POINTS))  # row by row
        y, x = np.unravel_index(pixels[chosen], mask.shape)
        stroke = np.floor(bezier(np.stack([x, y], axis=1).astype(np.float64)))
        if on_mask(stroke, mask):
            return stroke.astype(np.float32)
    return None


def _extent(mask: npt.NDArray[np.uint8], margin: int) -> tuple[slice, slice]:
    """Rows and columns of the mask's bounding box, with a margin inside the image."""
    slices = []
    for axis in (1, 0):
        used = np.flatnonzero(mask.any(axis=axis))
        slices.append(slice(max(0, int(used[0]) - margin), int(used[-1]) + 1 + margin))
    return slices[0], slices[1]


def _deepest_pixel(mask: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Row and column of the pixel farthest from the mask's outline."""
    depth = ndimage.distance_transform_cdt(np.pad(mask > 0, 1), metric="chessboard")
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return int(y) - 1, int(x) - 1
