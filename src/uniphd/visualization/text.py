"""Fonts, and text broken into lines that fit a width."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import ImageDraw, ImageFont

from uniphd.visualization.canvas import Color, Point

_LINE_SPACING = 1.32  # line height over font size
_ELLIPSIS = "…"


@lru_cache(maxsize=32)
def load_font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib carries: Latin, Greek, Cyrillic and more, without network."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def line_height(font: ImageFont.FreeTypeFont) -> int:
    """Pixels from one line of text to the next."""
    return round(font.size * _LINE_SPACING)


def wrap_text(
    text: str, font: ImageFont.FreeTypeFont, width: float, max_lines: int | None = None
) -> list[str]:
    """Break `text` into lines no wider than `width` pixels, words longer than that included.

    Args:
        text: any text; runs of white space count as one space.
        font: the font that the lines will be drawn with.
        width: pixels per line; a single character may be wider.
        max_lines: keep so many lines and end the last with an ellipsis; None keeps all.
    """
    lines: list[str] = []
    current = ""
    for word in text.split():
        candidate = f"{current} {word}" if current else word
        if font.getlength(candidate) <= width:
            current = candidate
            continue
        if current:
            lines.append(current)
        *full, current = _break_word(word, font, width)
        lines.extend(full)
    if current:
        lines.append(current)
    if max_lines is None or len(lines) <= max_lines:
        return lines
    return [*lines[: max_lines - 1], _shorten(lines[max_lines - 1], font, width)]


def draw_lines(
    draw: ImageDraw.ImageDraw,
    top_left: Point,
    lines: list[str],
    font: ImageFont.FreeTypeFont,
    color: Color,
) -> None:
    """Draw `lines` one below the other, each centred in its line's height."""
    x, y = top_left
    step = line_height(font)
    for index, line in enumerate(lines):
        draw.text((x, y + (index + 0.5) * step), line, fill=color, font=font, anchor="lm")


def _break_word(word: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Pieces of `word` that fit `width` each, at least one character long."""
    pieces = [word[0]]
    for character in word[1:]:
        if font.getlength(pieces[-1] + character) <= width:
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def _shorten(line: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """`line` with an ellipsis, cut until both fit."""
    while line and font.getlength(line + _ELLIPSIS) > width:
        line = line[:-1].rstrip()
    return line + _ELLIPSIS
