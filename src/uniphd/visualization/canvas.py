"""The palette, and smooth lines: Pillow draws jagged ones, so draw large and shrink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from PIL import Image, ImageDraw

Color: TypeAlias = tuple[int, int, int]
"""Red, green, blue in 0..255."""

Point: TypeAlias = tuple[float, float]
"""(x, y) in pixels."""

LEFT: Color = (0, 215, 80)
RIGHT: Color = (255, 128, 0)
CENTRE: Color = (51, 153, 255)
MASK: Color = (233, 60, 172)
PROMPT: Color = (255, 214, 10)
OUTLINE: Color = (20, 22, 26)
WHITE: Color = (255, 255, 255)

_SUPERSAMPLING = 3
_MAX_LAYER_SIDE = 6000  # keeps the enlarged layer of a large image within 150 MB


class Pen:
    """Draws in the coordinates of the image on an enlarged transparent layer.

    Args:
        draw: the layer's drawing context.
        factor: layer pixels per image pixel.
    """

    def __init__(self, draw: ImageDraw.ImageDraw, factor: int) -> None:
        self._draw = draw
        self._factor = factor

    def line(self, points: Sequence[Point], width: float, color: Color) -> None:
        """A polyline with round ends and corners, `width` pixels wide."""
        scaled = [self._scale(point) for point in points]
        self._draw.line(scaled, fill=color, width=max(1, round(width * self._factor)))
        for point in points:
            self.disc(point, width / 2, color)

    def disc(self, centre: Point, radius: float, color: Color) -> None:
        """A filled circle."""
        (x, y), r = self._scale(centre), radius * self._factor
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def stroke(self, points: Sequence[Point], unit: float) -> None:
        """A polyline in the prompt's colour with a dark border."""
        self.line(points, 1.9 * unit, OUTLINE)
        self.line(points, unit, PROMPT)

    def dot(self, centre: Point, unit: float) -> None:
        """A dot in the prompt's colour and a ring, dark around the light parts."""
        for radius, color in ((3.6, OUTLINE), (3.2, WHITE), (2.2, OUTLINE), (1.8, PROMPT)):
            self.disc(centre, radius * unit, color)

    def _scale(self, point: Point) -> Point:
        return point[0] * self._factor, point[1] * self._factor


def prompt_width(image: Image.Image) -> float:
    """Line width in pixels of a prompt that suits the image."""
    return max(1.5, min(image.size) / 110)


def paint(image: Image.Image, draw: Callable[[Pen], None]) -> Image.Image:
    """RGB copy of `image` with what `draw` puts on it, edges smooth."""
    factor = max(1, min(_SUPERSAMPLING, _MAX_LAYER_SIDE // max(image.size)))
    layer = Image.new("RGBA", (image.width * factor, image.height * factor), (0, 0, 0, 0))
    draw(Pen(ImageDraw.Draw(layer), factor))
    return Image.alpha_composite(image.convert("RGBA"), layer.reduce(factor)).convert("RGB")
