"""Masks and prompts drawn over an image."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from uniphd.prompts import PointPrompt, Prompt, ScribblePrompt, TextPrompt
from uniphd.visualization.canvas import MASK, OUTLINE, PROMPT, WHITE, Color, Pen, Point, paint
from uniphd.visualization.text import draw_lines, line_height, load_font, wrap_text

Mask: TypeAlias = npt.NDArray[np.bool_]
"""(H, W) bool, True on the person."""


def draw_mask(
    image: Image.Image,
    mask: Mask,
    *,
    color: Color = MASK,
    opacity: float = 0.42,
    contour: int | None = None,
) -> Image.Image:
    """RGB copy of `image` with the mask tinted and its inner contour drawn solid.

    Pixels outside the mask keep their values.

    Args:
        image: the image.
        mask: (H, W) bool of the image's size.
        color: tint and contour colour.
        opacity: share of the tint inside the mask, 0..1.
        contour: contour width in pixels, 0 for none; None takes what suits the image's size.
    """
    if contour is None:
        contour = max(1, round(min(image.size) / 240))
    region = Image.fromarray(mask.astype(np.uint8) * 255)
    result = image.convert("RGB")
    result.paste(color, mask=region.point([round(value * opacity) for value in range(256)]))
    if contour > 0:
        inside = region.filter(ImageFilter.MinFilter(2 * contour + 1))
        result.paste(color, mask=ImageChops.subtract(region, inside))
    return result


def draw_prompt(image: Image.Image, prompt: Prompt) -> Image.Image:
    """RGB copy of `image` with the prompt shown: a ringed dot, a stroke, a box or a caption.

    Args:
        image: the image.
        prompt: coordinates in the image's pixels. A text becomes a caption strip above the
            image, which makes the result taller; the other kinds keep the size.
    """
    unit = prompt_width(image)
    if isinstance(prompt, TextPrompt):
        return add_caption(image, prompt.text)
    if isinstance(prompt, PointPrompt):
        x, y = prompt.point.tolist()
        return paint(image, lambda pen: _draw_dot(pen, (x, y), unit))
    if isinstance(prompt, ScribblePrompt):
        stroke = [(x, y) for x, y in prompt.points.tolist()]
        return paint(image, lambda pen: _draw_stroke(pen, stroke, unit))
    x1, y1, x2, y2 = prompt.box.tolist()
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
    return paint(image, lambda pen: _draw_stroke(pen, corners, unit))


def add_caption(image: Image.Image, text: str) -> Image.Image:
    """RGB copy of `image` with `text`, wrapped, in a dark strip above it."""
    size = max(12, round(image.width / 32))
    font, margin = load_font(size), round(size * 0.6)
    lines = wrap_text(text, font, image.width - 2 * margin)
    strip = len(lines) * line_height(font) + 2 * margin if lines else 0
    result = Image.new("RGB", (image.width, image.height + strip), OUTLINE)
    draw_lines(ImageDraw.Draw(result), (margin, margin), lines, font, WHITE)
    result.paste(image.convert("RGB"), (0, strip))
    return result


def prompt_width(image: Image.Image) -> float:
    """Line width in pixels of a prompt that suits the image."""
    return max(1.5, min(image.size) / 110)


def _draw_dot(pen: Pen, centre: Point, unit: float) -> None:
    """A dot in a ring, dark around the light parts."""
    for radius, color in ((3.6, OUTLINE), (3.2, WHITE), (2.2, OUTLINE), (1.8, PROMPT)):
        pen.disc(centre, radius * unit, color)


def _draw_stroke(pen: Pen, points: list[Point], unit: float) -> None:
    """A polyline with a dark border."""
    pen.line(points, 1.9 * unit, OUTLINE)
    pen.line(points, unit, PROMPT)
