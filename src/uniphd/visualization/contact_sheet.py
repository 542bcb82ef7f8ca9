"""Contact sheets: image and prompt, prediction, annotation, one row per referred person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from PIL import Image, ImageDraw

from uniphd.prompts import Prompt
from uniphd.structures import Size
from uniphd.visualization.canvas import CENTRE, LEFT, MASK, OUTLINE, PROMPT, RIGHT, Color
from uniphd.visualization.panels import (
    FADED,
    INK,
    PAPER,
    Body,
    body_panel,
    caption_panel,
    image_panel,
)
from uniphd.visualization.text import load_font
from uniphd.visualization.viewport import around

__all__ = ["Body", "Row", "contact_sheet", "render_panels"]

_IMAGE: Size = (360, 480)  # of the panel that shows the whole image
_PERSON: Size = (360, 360)  # of the panels that enlarge the person
_GAP, _MARGIN = 12, 28
_HEADER, _LEGEND = 52, 40
_HEADER_SIZE, _LEGEND_SIZE = 18, 15
_ROW_WIDTH = _IMAGE[1] + 2 * (_PERSON[1] + _GAP)
_RULE: Color = (208, 213, 219)
_TITLES = (
    ("Image and prompt", 0),
    ("Prediction", _IMAGE[1] + _GAP),
    ("Annotation", _IMAGE[1] + _PERSON[1] + 2 * _GAP),
)
_LEGEND_ENTRIES = (
    ("prompt", PROMPT),
    ("mask", MASK),
    ("person's left", LEFT),
    ("person's right", RIGHT),
    ("middle", CENTRE),
)


@dataclass(frozen=True)
class Row:
    """One referred person.

    Attributes:
        title: what tells the row from others, such as the file name and the image id.
        image: the image.
        prompt: the prompt, in the image's pixels.
        prediction: the best detection.
        annotation: the truth.
        score: confidence of the prediction, 0..1.
        iou: mask IoU of prediction and annotation, None if not computed.
        oks: object keypoint similarity of both, None if not computed.
    """

    title: str
    image: Image.Image
    prompt: Prompt
    prediction: Body
    annotation: Body
    score: float
    iou: float | None = None
    oks: float | None = None


def contact_sheet(rows: Sequence[Row], *, columns: int = 1) -> Image.Image:
    """Draw a sheet with the image, the prediction and the annotation of every row.

    The first panel shows the whole image with the prompt (a text stands below it) and, as
    corner marks, the region that the other two panels enlarge.

    Args:
        rows: at least one.
        columns: how many rows stand side by side.

    Returns:
        An RGB image, 1280 pixels wide with one column.

    Raises:
        ValueError: no rows, or less than one column.
    """
    if not rows or columns < 1:
        raise ValueError(f"A sheet needs rows and columns; got {len(rows)} and {columns}.")
    strips = [_draw_row(row) for row in rows]
    columns = min(columns, len(strips))
    lines = list(zip_longest(*[iter(strips)] * columns))
    heights = [max(strip.height for strip in line if strip) for line in lines]
    width = columns * (_ROW_WIDTH + 2 * _MARGIN)
    height = _HEADER + sum(heights) + len(lines) * _MARGIN + _LEGEND
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [_MARGIN + column * (_ROW_WIDTH + 2 * _MARGIN) for column in range(columns)]
    for left in lefts:
        _draw_header(draw, left)
    top = _HEADER
    for line, line_height in zip(lines, heights, strict=True):
        for left, strip in zip(lefts, line, strict=True):
            if strip is not None:
                sheet.paste(strip, (left, top))
        top += line_height + _MARGIN
        draw.line((_MARGIN, top - _MARGIN // 2, width - _MARGIN, top - _MARGIN // 2), fill=_RULE)
    _draw_legend(draw, _MARGIN, top + _LEGEND // 2 - _MARGIN // 4)
    return sheet


def render_panels(row: Row) -> tuple[Image.Image, Image.Image, Image.Image]:
    """The image with its prompt, the prediction and the annotation of a row."""
    truth = (row.annotation.keypoints, row.annotation.visible)
    region = around([row.prediction.mask, row.annotation.mask], truth, _PERSON)
    return (
        image_panel(row.image, row.prompt, region, _IMAGE),
        body_panel(row.image, row.prediction, region, _PERSON),
        body_panel(row.image, row.annotation, region, _PERSON),
    )


def _draw_row(row: Row) -> Image.Image:
    """The three panels of a row and their captions."""
    rendered, prediction, annotation = render_panels(row)
    columns = (
        (rendered, row.prompt.describe(), row.title),
        (prediction, _describe_scores(row), ""),
        (annotation, _describe(row.annotation), ""),
    )
    captions = [caption_panel(text, note, panel.width) for panel, text, note in columns]
    height = _IMAGE[0] + max(caption.height for caption in captions)
    strip = Image.new("RGB", (_ROW_WIDTH, height), PAPER)
    for (_, left), (panel, _, _), caption in zip(_TITLES, columns, captions, strict=True):
        strip.paste(panel, (left, 0))
        strip.paste(caption, (left, panel.height))
    return strip


def _describe_scores(row: Row) -> str:
    numbers = (("score", row.score), ("mask IoU", row.iou), ("OKS", row.oks))
    return " · ".join(f"{name} {value:.2f}" for name, value in numbers if value is not None)


def _describe(annotation: Body) -> str:
    return f"{int(annotation.visible.sum())} of {len(annotation.visible)} keypoints labelled"


def _draw_header(draw: ImageDraw.ImageDraw, left: int) -> None:
    """The titles of the three panels."""
    font = load_font(_HEADER_SIZE, bold=True)
    for title, offset in _TITLES:
        draw.text((left + offset, _HEADER // 2), title, fill=INK, font=font, anchor="lm")


def _draw_legend(draw: ImageDraw.ImageDraw, left: int, middle: int) -> None:
    """One colour swatch per entry, side by side."""
    font = load_font(_LEGEND_SIZE)
    x: float = left
    for name, color in _LEGEND_ENTRIES:
        draw.rounded_rectangle((x, middle - 7, x + 22, middle + 7), 4, fill=color, outline=OUTLINE)
        draw.text((x + 30, middle), name, fill=FADED, font=font, anchor="lm")
        x += 30 + font.getlength(name) + 26
    draw.line(((x, middle - 2), (x, middle - 7), (x + 5, middle - 7)), fill=INK, width=2)
    draw.line(((x + 13, middle + 7), (x + 18, middle + 7), (x + 18, middle + 2)), fill=INK, width=2)
    draw.text((x + 26, middle), "enlarged region", fill=FADED, font=font, anchor="lm")
