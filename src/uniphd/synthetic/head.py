"""The head: skin, ears, eyes, hair and hat, from every side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from uniphd.synthetic.appearance import COLORS, HAIR_COLORS, Appearance, Rgb, shaded
from uniphd.synthetic.pose import Points, Proportions, Skeleton
from uniphd.synthetic.shapes import Shape, cap, capsules, disc

_DEPTH = 0.02  # the head hides the neck; raised arms that come forward hide the head
_HEAD_WIDTH = 0.80  # over the head's height
_EYES: Rgb = (36, 30, 30)


class _Placement(NamedTuple):
    """Where a head is: its centre, half its width and height, where it looks, and its depth."""

    centre: Points
    radii: tuple[float, float]
    sideways: float
    forward: float
    depth: float


def head_shapes(skeleton: Skeleton, body: Proportions, appearance: Appearance) -> Iterator[Shape]:
    """The shapes of a head, in units of the person's height.

    Args:
        skeleton: where the head and the face are.
        body: for the head's size.
        appearance: hair, hat, colours.
    """
    centre, size = skeleton.head[:2], body.head
    depth = float(skeleton.head[2]) + _DEPTH
    width = _HEAD_WIDTH * size
    angle = np.radians(skeleton.looking)
    sideways, forward = float(np.sin(angle)), float(np.cos(angle))
    face = skeleton.face
    for ear in face[3:]:
        if ear[2] > skeleton.head[2] - 0.6 * size:
            front = ear[2] > skeleton.head[2] + 0.3 * size
            yield _skin(
                "head", disc(ear[:2], 0.17 * size), appearance, depth + (4e-4 if front else -4e-4)
            )
    yield _skin("head", cap(centre, (width, size), np.array([0.0, -1.0]), -1.0), appearance, depth)
    if forward > -0.35:
        if abs(sideways) > 0.5:
            yield _skin("head", disc(face[0, :2], 0.17 * size, 6), appearance, depth + 1e-4)
        for eye in face[1:3]:
            if eye[2] > skeleton.head[2] + 0.1 * size:
                outline = disc(eye[:2], 0.13 * size, 6)
                yield Shape("head", "skin", outline, _EYES, depth + 2e-4)
        mouth = centre + np.array([sideways * 0.5 * size, 0.52 * size])
        span = np.array([0.2 * size * max(forward, 0.3), 0.0])
        line = capsules((mouth - span)[None], (mouth + span)[None], np.full((1, 2), 0.05 * size))[0]
        yield Shape("head", "skin", line, shaded(appearance.skin, 0.62), depth + 2e-4)
    at = _Placement(centre, (width, size), sideways, forward, depth)
    yield from _hair(at, appearance)
    yield from _hat(at, appearance)


def _skin(limb: str, outline: Points, appearance: Appearance, depth: float) -> Shape:
    return Shape(limb, "skin", outline, appearance.skin, depth)


def _hair(at: _Placement, appearance: Appearance) -> Iterator[Shape]:
    """A cap of hair away from the face; long hair also hangs to the shoulders behind it."""
    if appearance.hair_length == "bald":
        return
    centre, radii, sideways, forward, depth = at
    color = HAIR_COLORS[appearance.hair]
    back = max(0.0, -forward)
    toward = np.array([-0.95 * sideways, -(0.45 + 0.55 * abs(forward))])
    toward /= np.hypot(*toward)
    # The hairline: a third from the top seen from the front, the nape seen from behind.
    cut = 0.42 * max(forward, 0) + 0.12 * (1 - abs(forward)) - 0.55 * back
    outline = cap(centre, (1.1 * radii[0], 1.1 * radii[1]), toward, cut)
    yield Shape("hair", "hair", outline, color, depth + 3e-4)
    if appearance.hair_length == "long":
        shift = np.array([-0.45 * sideways * radii[0], 0.0])
        breadth = radii[0] * (1.22 - 0.5 * abs(sideways))
        height = radii[1]
        fall = centre + shift + np.array(
            [(-breadth * 0.9, -0.3 * height), (breadth * 0.9, -0.3 * height),
             (breadth, 1.45 * height), (-breadth, 1.45 * height)]
        )  # fmt: skip
        behind = -0.03 if forward > -0.2 else 3e-4
        yield Shape("hair", "hair", fall, shaded(color, 0.9), depth + behind)


def _hat(at: _Placement, appearance: Appearance) -> Iterator[Shape]:
    """A crown over the upper half of the head, and a peak or a brim."""
    if appearance.hat is None or appearance.hat_color is None:
        return
    centre, radii, sideways, forward, depth = at
    color = COLORS[appearance.hat_color]
    toward = np.array([-0.2 * sideways, -1.0])
    toward /= np.hypot(*toward)
    tall = {"cap": 1.3, "beanie": 1.45, "brim": 1.4}[appearance.hat]
    crown = cap(centre, (1.2 * radii[0], tall * radii[1]), toward, 0.24)
    yield Shape("hat", "hat", crown, color, depth + 5e-4)
    if appearance.hat == "beanie":
        return
    line = centre + np.array([0.0, -0.36 * radii[1]])
    if appearance.hat == "brim":
        reach = np.array([1.75 * radii[0], 0.0])
        start, end = line - reach, line + reach
    else:
        start = line
        end = line + np.array([1.75 * sideways * radii[0], 0.12 * radii[1] * forward])
        if forward < -0.5:
            return
    thickness = np.full((1, 2), 0.15 * radii[1])
    if appearance.hat == "cap" and forward > 0.5:  # a peak that points to the camera
        reach = np.array([0.75 * radii[0], 0.0])
        start, end = start - reach, start + reach + 0.3 * (end - start)
    brim = capsules(start[None], end[None], thickness)[0]
    yield Shape("hat", "hat", brim, shaded(color, 0.82 if sum(color) > 150 else 1.5), depth + 6e-4)
