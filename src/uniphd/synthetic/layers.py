"""Instances -> layers: which pixel shows whom and what, drawn at twice the image's size.

Everybody is drawn alone first, so that it is known how much of them others hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from uniphd.structures import Size
from uniphd.synthetic.appearance import Rgb
from uniphd.synthetic.figure import figure_shapes
from uniphd.synthetic.layout import PersonInstance
from uniphd.synthetic.shapes import Shape

FACTOR = 2
"""Subpixels per pixel and axis."""

REGIONS = ("", "shirt", "bottom", "hat", "hair", "skin", "shoes", "prop")
_PROP = REGIONS.index("prop")
_EDGE = 128  # shape number + this is the shape's outline, which is darker
_EDGE_SHADE = 0.66


@dataclass(frozen=True)
class Layers:
    """The people of a scene drawn over each other; S labels of shapes, number 0 is nobody.

    Attributes:
        labels: (2 h, 2 w) uint16, the shape that every subpixel shows.
        owners: (S,) uint8 number of the person from 1, 0 for props and nobody.
        regions: (S,) uint8 place in `REGIONS`.
        limbs: (S,) names.
        colors: (S, 3) uint8 under white light.
        drawn: (people, regions) subpixels per region that each person would show alone, also
            outside of the image.
    """

    labels: npt.NDArray[np.uint16]
    owners: npt.NDArray[np.uint8]
    regions: npt.NDArray[np.uint8]
    limbs: tuple[str, ...]
    colors: npt.NDArray[np.uint8]
    drawn: npt.NDArray[np.int64]

    def shown(self) -> npt.NDArray[np.int64]:
        """(people, regions) subpixels per region that are left of each person."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.owners))
        table = np.zeros((len(self.drawn) + 1, len(REGIONS)), dtype=np.int64)
        np.add.at(table, (self.owners, self.regions), counts)
        table[:, _PROP] = 0
        return table[1:]

    def masks(self) -> npt.NDArray[np.bool_]:
        """(people, h, w) the pixels of each person: at least half of a pixel, ties to the nearest.

        No pixel belongs to two people.
        """
        owners = self.owners[self.labels]
        people = np.arange(1, len(self.drawn) + 1, dtype=np.uint8)[::-1, None, None]
        counts = sum(
            (owners[row::FACTOR, column::FACTOR] == people).astype(np.uint8)
            for row in range(FACTOR)
            for column in range(FACTOR)
        )
        winner = np.argmax(counts, axis=0)  # the first of equals, which is the nearest
        half = np.take_along_axis(counts, winner[None], axis=0)[0] * 2 >= FACTOR**2
        masks: npt.NDArray[np.bool_] = (winner == np.arange(len(people))[:, None, None]) & half
        return masks[::-1]

    def over(self, background: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(h, w, 3) 0..255, the people before a background (h, w, 3)."""
        # Red, green, blue and "nobody" side by side in one number, which is looked up and added
        # for the subpixels of a pixel at once; each stays below 2**16.
        lanes = np.zeros((len(self.colors), 4), dtype=np.uint16)
        lanes[:, :3] = self.colors
        lanes[0, 3] = 1
        sums = lanes.view(np.uint64)[:, 0][self.labels]
        sums = sums[0::2] + sums[1::2]
        sums = sums[:, 0::2] + sums[:, 1::2]
        parts = sums.view(np.uint16).reshape(*sums.shape, 4)
        mixed: npt.NDArray[np.float32] = parts[..., :3] + background * parts[..., 3:]
        return mixed.astype(np.float32) / np.float32(FACTOR**2)


def rasterize(instances: Sequence[PersonInstance], size: Size) -> Layers:
    """Draw instances, the farthest first.

    Args:
        instances: in this order they cover each other.
        size: (height, width) of the image.
    """
    labels = np.zeros((size[0] * FACTOR, size[1] * FACTOR), dtype=np.uint16)
    drawn = np.zeros((len(instances), len(REGIONS)), dtype=np.int64)
    limbs = [""]
    rows: list[tuple[int, int, Rgb, float]] = [(0, 0, (0, 0, 0), 1)]  # of each label
    for number, instance in enumerate(instances):
        shapes = figure_shapes(
            instance.skeleton, instance.body, instance.appearance, instance.pose == "sitting"
        )
        tile, corner = _rasterize_person(instance, shapes)
        _paste(labels, tile, corner, len(rows), len(shapes))
        places = [REGIONS.index(shape.region) for shape in shapes]
        counts = np.bincount(tile.ravel(), minlength=2 * _EDGE).reshape(2, _EDGE).sum(0)
        np.add.at(drawn[number], places, counts[1 : len(shapes) + 1])
        owners = [0 if place == _PROP else number + 1 for place in places]
        colors = [shape.color for shape in shapes]
        for shade in (1.0, _EDGE_SHADE):
            rows += zip(owners, places, colors, [shade] * len(shapes), strict=True)
        limbs += [shape.limb for shape in shapes] * 2
    drawn[:, _PROP] = 0
    owner, region, color, shades = (np.array(column) for column in zip(*rows, strict=True))
    return Layers(
        labels=labels,
        owners=owner.astype(np.uint8),
        regions=region.astype(np.uint8),
        limbs=tuple(limbs),
        colors=(color * shades[:, None]).astype(np.uint8),
        drawn=drawn,
    )


def _rasterize_person(
    instance: PersonInstance, shapes: Sequence[Shape]
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """One person's subpixels: shape numbers from 1, outlines `_EDGE` more; and the corner (x, y).

    Pillow's pixel (i, j) has its middle at (i, j), ours at (i + 0.5, j + 0.5).
    """
    lengths = [len(shape.outline) for shape in shapes]
    corners = instance.place(np.concatenate([shape.outline for shape in shapes])) * FACTOR - 0.5
    left, top = np.floor(corners.min(0)).astype(int).tolist()
    right, bottom = np.ceil(corners.max(0)).astype(int).tolist()
    tile = Image.new("L", (right - left + 1, bottom - top + 1))
    draw = ImageDraw.Draw(tile)
    numbers = (corners - (left, top)).ravel().tolist()
    start = 0
    for index, length in enumerate(lengths, start=1):
        end = start + 2 * length
        draw.polygon(numbers[start:end], fill=index, outline=_EDGE + index)
        start = end
    return np.asarray(tile), (left, top)


def _paste(
    labels: npt.NDArray[np.uint16],
    tile: npt.NDArray[np.uint8],
    corner: tuple[int, int],
    first: int,
    shapes: int,
) -> None:
    """Put the part of a tile that lies on the image onto it, with numbers from `first`."""
    left, top = corner
    rows = slice(max(0, top), max(0, min(labels.shape[0], top + tile.shape[0])))
    columns = slice(max(0, left), max(0, min(labels.shape[1], left + tile.shape[1])))
    part = tile[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    numbers = np.zeros(256, dtype=np.uint16)
    numbers[1 : shapes + 1] = first + np.arange(shapes)
    numbers[_EDGE + 1 : _EDGE + shapes + 1] = first + shapes + np.arange(shapes)
    if part.size:
        np.copyto(labels[rows, columns], numbers[part], where=part > 0)
