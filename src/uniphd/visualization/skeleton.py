"""A skeleton drawn over an image: left green, right orange, middle blue."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from uniphd.keypoints import COCO17, KeypointSchema
from uniphd.visualization.canvas import CENTRE, LEFT, OUTLINE, RIGHT, WHITE, Color, Pen, paint

Keypoints: TypeAlias = npt.NDArray[np.floating[Any]]
"""(K, 2) float (x, y) in pixels."""

Flags: TypeAlias = npt.NDArray[np.bool_]
"""(K,) bool, True where the keypoint is to be drawn."""

_WIDTH_PER_EXTENT = 0.016  # line width over the skeleton's longer side
_MIN_WIDTH, _MAX_WIDTH = 1.5, 12.0


def keypoint_color(name: str) -> Color:
    """The colour of a keypoint, which is that of its side."""
    if name.startswith("left_"):
        return LEFT
    return RIGHT if name.startswith("right_") else CENTRE


def bone_color(start: str, end: str) -> Color:
    """The colour of the line between two keypoints."""
    color = keypoint_color(start)
    return color if color == keypoint_color(end) else CENTRE


def line_width(keypoints: Keypoints, visible: Flags) -> float:
    """Line width in pixels that suits the extent of the visible keypoints."""
    points = keypoints[visible]
    extent = float(np.ptp(points, axis=0).max()) if len(points) else 0.0
    return float(np.clip(_WIDTH_PER_EXTENT * extent, _MIN_WIDTH, _MAX_WIDTH))


def render_skeleton(
    image: Image.Image, keypoints: Keypoints, visible: Flags, schema: KeypointSchema = COCO17
) -> Image.Image:
    """RGB copy of `image` with the skeleton on it.

    A bone is drawn when both its ends are visible; its colour is that of its side, and blue
    where it joins the sides. Lines and joints grow with the person.

    Args:
        image: the image.
        keypoints: (K, 2) float (x, y) in pixels; points outside the image are clipped, points
            that are not finite are left out.
        visible: (K,) bool, the keypoints to draw.
        schema: which K keypoints these are.
    """
    drawn = visible & np.isfinite(keypoints).all(axis=1)
    width = line_width(keypoints, drawn)
    names = schema.names
    points = [(float(x), float(y)) for x, y in keypoints]
    bones = [(start, end) for start, end in schema.edges if drawn[start] and drawn[end]]

    def draw(pen: Pen) -> None:
        for start, end in bones:
            pen.line((points[start], points[end]), width * 1.9, OUTLINE)
        for start, end in bones:
            pen.line((points[start], points[end]), width, bone_color(names[start], names[end]))
        for index in np.flatnonzero(drawn):
            pen.disc(points[index], width * 1.55, OUTLINE)
            pen.disc(points[index], width * 1.25, WHITE)
            pen.disc(points[index], width * 0.9, keypoint_color(names[index]))

    return paint(image, draw)
