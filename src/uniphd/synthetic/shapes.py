"""Flat shapes and the polygons they are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from uniphd.synthetic.appearance import Rgb
from uniphd.synthetic.pose import Points

_CAP = 5  # corners of each round end of a limb
_CAP_ANGLES = np.linspace(np.pi / 2, 3 * np.pi / 2, _CAP)

_ARC = np.linspace(-1, 1, 14)  # corners of a part of an ellipse


@dataclass(frozen=True)
class Shape:
    """One polygon of one colour.

    Attributes:
        limb: what it is a part of, such as "left_forearm" or "head".
        region: what it shows: "shirt", "bottom", "hat", "hair", "shoes" or "skin".
        outline: (P, 2) x, y.
        color: its colour under white light.
        depth: larger is nearer to the camera.
    """

    limb: str
    region: str
    outline: Points
    color: Rgb
    depth: float


def capsules(starts: Points, ends: Points, radii: Points) -> Points:
    """Limbs with round ends: polygons (n, 10, 2).

    Args:
        starts: (n, 2).
        ends: (n, 2).
        radii: (n, 2) at the start and at the end.
    """
    along = ends - starts
    angle = np.arctan2(along[:, 1], along[:, 0])[:, None]
    first, second = angle + _CAP_ANGLES, angle + _CAP_ANGLES + np.pi
    near = starts[:, None] + radii[:, :1, None] * np.stack([np.cos(first), np.sin(first)], -1)
    far = ends[:, None] + radii[:, 1:, None] * np.stack([np.cos(second), np.sin(second)], -1)
    return np.concatenate([near, far], axis=1)


def disc(centre: Points, radius: float, corners: int = 10) -> Points:
    """A circle as a polygon (corners, 2)."""
    return centre + radius * _circle(corners)


@cache
def _circle(corners: int) -> Points:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def cap(centre: Points, radii: tuple[float, float], toward: Points, cut: float) -> Points:
    """The part of an ellipse on one side of a chord, as a polygon.

    Args:
        centre: (2,) of the ellipse.
        radii: half of its width and of its height.
        toward: (2,) unit vector from the chord to the part that is kept.
        cut: where the chord is, from -1 (all of the ellipse) to 1 (nothing).
    """
    angles = math.atan2(toward[1], toward[0]) + math.acos(cut) * _ARC
    outline: Points = centre + np.stack(
        [radii[0] * np.cos(angles), radii[1] * np.sin(angles)], axis=-1
    )
    return outline
