"""The panels of a contact sheet: image with prompt, person with mask and skeleton, caption."""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from uniphd.keypoints import COCO17, KeypointSchema
from uniphd.prompts import Prompt
from uniphd.structures import Size
from uniphd.visualization.canvas import OUTLINE, WHITE, Color, Pen, paint
from uniphd.visualization.overlay import Mask, render_mask
from uniphd.visualization.skeleton import Flags, Keypoints, render_skeleton
from uniphd.visualization.text import draw_lines, line_height, load_font, wrap_text
from uniphd.visualization.viewport import View, whole

PAPER: Color = (255, 255, 255)
EMPTY: Color = (236, 238, 241)
INK: Color = (31, 35, 40)
FADED: Color = (89, 96, 105)

_SUPERSAMPLING = 2
_CAPTION_SIZE, _CAPTION_LINES = 15, 5
_CORNER = 14  # pixels of a corner mark's arms


@dataclass(frozen=True)
class Body:
    """Skeleton and mask of one person.

    Attributes:
        keypoints: (K, 2) float (x, y) in the image's pixels.
        visible: (K,) bool, the keypoints to draw.
        mask: (H, W) bool of the image's size.
        schema: which K keypoints these are.
    """

    keypoints: Keypoints
    visible: Flags
    mask: Mask
    schema: KeypointSchema = COCO17


def image_panel(image: Image.Image, prompt: Prompt, region: View, size: Size) -> Image.Image:
    """The whole image with a drawn prompt and corner marks around `region`."""
    view = whole((image.height, image.width), size)
    rendered = view.crop(image)
    sizes = (image.height, image.width), (rendered.height, rendered.width)
    rendered = prompt.resized(*sizes).render(rendered)
    x1, y1, x2, y2 = (value * view.scale for value in region.box)
    return centred(paint(rendered, lambda pen: _draw_corners(pen, (x1, y1, x2, y2))), size)


def body_panel(image: Image.Image, body: Body, region: View, size: Size) -> Image.Image:
    """The region of the image with the body's mask and skeleton."""
    view = replace(region, scale=region.scale * _SUPERSAMPLING)
    rendered = render_mask(view.crop(image), view.crop_mask(body.mask), contour=2 * _SUPERSAMPLING)
    points = view.map_points(body.keypoints)
    rendered = render_skeleton(rendered, points, body.visible, body.schema)
    return centred(rendered.reduce(_SUPERSAMPLING), size)


def caption_panel(text: str, note: str, width: int) -> Image.Image:
    """`text` and, fainter, `note` below it, wrapped to `width`; as high as it needs to be."""
    font = load_font(_CAPTION_SIZE)
    step = line_height(font)
    lines = wrap_text(text, font, width, _CAPTION_LINES)
    notes = wrap_text(note, font, width, 2)
    top = step // 3
    panel = Image.new("RGB", (width, top + (len(lines) + len(notes)) * step), PAPER)
    draw = ImageDraw.Draw(panel)
    draw_lines(draw, (0, top), lines, font, INK)
    draw_lines(draw, (0, top + len(lines) * step), notes, font, FADED)
    return panel


def _draw_corners(pen: Pen, box: tuple[float, float, float, float]) -> None:
    """White corner marks with a dark border just inside the corners of (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = box
    inset = min(2.0, (x2 - x1) / 4, (y2 - y1) / 4)
    arm = min(_CORNER, (x2 - x1) / 3, (y2 - y1) / 3)
    for width, color in ((4.0, OUTLINE), (2.0, WHITE)):
        for x, dx in ((x1 + inset, arm), (x2 - inset, -arm)):
            for y, dy in ((y1 + inset, arm), (y2 - inset, -arm)):
                pen.line(((x + dx, y), (x, y), (x, y + dy)), width, color)


def centred(rendered: Image.Image, size: Size) -> Image.Image:
    """An image in the middle of an empty panel of (height, width)."""
    panel = Image.new("RGB", (size[1], size[0]), EMPTY)
    panel.paste(rendered, ((size[1] - rendered.width) // 2, (size[0] - rendered.height) // 2))
    return panel
