"""Galleries: images of equal size side by side, each with a few words below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image

from uniphd.data.annotations import ReferredPerson
from uniphd.data.sample import annotate, annotated_person, resize
from uniphd.prompts import KINDS, FixedPrompt
from uniphd.structures import Size
from uniphd.visualization.panels import PAPER, Body, body_panel, caption_panel, centred
from uniphd.visualization.viewport import whole

PANEL: Size = (288, 288)
"""(height, width) of a gallery's images in pixels."""

_GAP = 12


@dataclass(frozen=True)
class Tile:
    """An image of a gallery.

    Attributes:
        image: of any size.
        text: what stands below it.
        note: fainter, below the text.
    """

    rendered: Image.Image
    text: str
    note: str = ""


def gallery(tiles: Sequence[Tile], *, columns: int = 4, panel: Size = PANEL) -> Image.Image:
    """Lay tiles out in lines, every image as large as its panel allows.

    Args:
        tiles: at least one.
        columns: tiles per line.
        panel: (height, width) of the images.

    Raises:
        ValueError: no tiles, or less than one column.
    """
    if not tiles or columns < 1:
        raise ValueError(f"A gallery needs tiles and columns; got {len(tiles)} and {columns}.")
    columns = min(columns, len(tiles))
    strips = [_strip(tile, panel) for tile in tiles]
    lines = [strips[start : start + columns] for start in range(0, len(strips), columns)]
    heights = [max(strip.height for strip in line) + _GAP for line in lines]
    page = Image.new("RGB", (columns * (panel[1] + _GAP) + _GAP, sum(heights) + _GAP), PAPER)
    top = _GAP
    for line, height in zip(lines, heights, strict=True):
        for place, strip in enumerate(line):
            page.paste(strip, (_GAP + place * (panel[1] + _GAP), top))
        top += height
    return page


def prompt_tile(image: Image.Image, person: ReferredPerson, kind: str, panel: Size = PANEL) -> Tile:
    """The evaluation's prompt of one kind over the image, with a line about it below.

    Args:
        image: the person's image.
        person: the referred person.
        kind: of the prompt.
        panel: (height, width) that the image is enlarged or shrunk to fit into.
    """
    annotated = annotate(image, [person])
    scale = whole(annotated.size, panel).scale
    annotated = resize(annotated, _scaled(annotated.size, scale))
    prompt = FixedPrompt(kind)(annotated.people[0], Random(0))
    return Tile(prompt.render(annotated.image), prompt.describe())


def annotation_tile(image: Image.Image, person: ReferredPerson, panel: Size = PANEL) -> Tile:
    """The annotated mask and skeleton over the image."""
    annotated = annotated_person(person)
    body = Body(
        keypoints=annotated.keypoints.numpy(),
        visible=annotated.visibility.numpy(),
        mask=annotated.mask[0].bool().numpy(),
        schema=annotated.schema,
    )
    rendered = body_panel(image, body, whole(annotated.size, panel), panel)
    return Tile(rendered, "", f"{person.num_keypoints} keypoints labelled")


def person_tiles(image: Image.Image, person: ReferredPerson, panel: Size = PANEL) -> list[Tile]:
    """A line of a gallery: every kind of prompt, then the annotation."""
    prompts = [prompt_tile(image, person, kind, panel) for kind in KINDS]
    return [*prompts, annotation_tile(image, person, panel)]


def _strip(tile: Tile, panel: Size) -> Image.Image:
    """An image in the middle of its panel, with its words below."""
    view = whole((tile.rendered.height, tile.rendered.width), panel)
    rendered = tile.rendered if view.scale == 1 else view.crop(tile.rendered)
    words = caption_panel(tile.text, tile.note, panel[1])
    strip = Image.new("RGB", (panel[1], panel[0] + words.height), PAPER)
    strip.paste(centred(rendered, panel), (0, 0))
    strip.paste(words, (0, panel[0]))
    return strip


def _scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
