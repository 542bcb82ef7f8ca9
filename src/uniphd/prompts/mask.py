"""Mask prompts, which the paper does not have: a coarse mask of the person.

Such a mask comes from another segmenter or from the previous frame of a video. The network reads
the image at sixteen pixels that stand for equal parts of its area, so the tokens' mean is the mean
over the mask. No weights beyond those of the other spatial prompts are needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from uniphd.data.masks import decode_segmentation, encode_mask, encode_segmentation
from uniphd.errors import PromptError
from uniphd.prompts.base import Prompt, Tokenize, require_tensor
from uniphd.prompts.points import PointsBlock, pad_points
from uniphd.structures import Size
from uniphd.visualization.canvas import PROMPT
from uniphd.visualization.overlay import render_mask

if TYPE_CHECKING:
    from uniphd.data.sample import AnnotatedPerson

_BANDS = 4  # of equal area from top to bottom, and as many parts of equal area in each
_MAX_PIXELS = 2**26  # of a mask in JSON

# The evaluation's mask has twelve cells along the longer side of the person's box: a cell is about
# half a head of a standing person (seven to eight heads high), so limbs are blocks and hands are
# lost, as in the masks of a small segmenter. A cell belongs to it if it is half occupied. Its IoU
# with the masks of synthetic people is 0.69 on average; that of the training's masks is 0.55.
_FIXED_CELLS, _FIXED_OCCUPANCY = 12, 0.5

# In training the cells are finer or coarser than the evaluation's. A low occupancy dilates the mask
# by up to a cell and a high one erodes it. Up to two discs are cut out, up to one is added, and the
# whole is moved as a person moves between two frames.
_CELLS = (8, 32)
_OCCUPANCY = (0.2, 0.8)
_CUT, _ADDED = 2, 1
_DISC_RADIUS = (0.05, 0.15)  # of the box's longer side
_SHIFT = 0.05  # of the box's longer side
_MARGIN = 2  # cells around the box in which a disc may be added


@dataclass(frozen=True)
class MaskPrompt(Prompt):
    """A coarse mask of the person: `mask` (h, w) bool of the image's size."""

    kind: ClassVar[str] = "mask"
    reads_scribbles: ClassVar[bool] = False
    mask: Tensor

    def require_sound(self) -> None:
        """Refuse what is not two-dimensional and bool, and a mask without a pixel."""
        require_tensor(self.mask, self.kind)
        if self.mask.ndim != 2 or self.mask.dtype != torch.bool:
            raise PromptError(
                f"A mask prompt has the shape {tuple(self.mask.shape)} and the type "
                f"{self.mask.dtype}; give (h, w) of torch.bool."
            )
        if not self.mask.any():
            raise PromptError("A mask prompt is empty; mark at least one pixel of the person.")

    def require_inside(self, size: Size) -> None:
        """Refuse a mask of another size than its image's."""
        if tuple(self.mask.shape) != tuple(size):
            height, width = self.mask.shape
            raise PromptError(
                f"A mask prompt has {width} x {height} pixels and is outside of its "
                f"{size[1]} x {size[0]} image; resize it to the image."
            )

    def resized(self, size: Size, new: Size) -> MaskPrompt:
        """The nearest pixels, and at least one of the mask's."""
        mask = F.interpolate(self.mask[None, None].byte(), new, mode="nearest")[0, 0].bool()
        if not mask.any() and self.mask.any():
            y, x = self.mask.nonzero()[0].tolist()
            mask[y * new[0] // self.mask.shape[0], x * new[1] // self.mask.shape[1]] = True
        return MaskPrompt(mask)

    def mirrored(self, width: int) -> MaskPrompt:
        """See the base."""
        return MaskPrompt(self.mask.flip(-1))

    @classmethod
    def sample(cls, person: AnnotatedPerson, random: Random) -> MaskPrompt:
        """The annotated mask in cells of random size, grown or shrunk, spotted and moved."""
        return cls(_degraded(person.mask[0].bool(), random))

    @classmethod
    def fixed(cls, person: AnnotatedPerson) -> MaskPrompt:
        """The annotated mask in twelve cells along its longer side."""
        return cls(_coarse(person.mask[0].bool()))

    @classmethod
    def collate(cls, prompts: Sequence[MaskPrompt], tokenize: Tokenize) -> PointsBlock:
        """The points that every mask is read at."""
        return pad_points([spread_points(prompt.mask) for prompt in prompts])

    def render(self, image: Image.Image) -> Image.Image:
        """The mask, tinted."""
        return render_mask(image, self.mask.numpy(), color=PROMPT)

    def to_json(self) -> dict[str, Any]:
        """{"size": [h, w], "counts": COCO's compressed run lengths}."""
        return {"size": list(self.mask.shape), "counts": encode_mask(self.mask.numpy())}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MaskPrompt:
        """See the base."""
        height, width = map(int, value["size"])
        if not 0 < height * width <= _MAX_PIXELS:
            raise ValueError(f"has {height} x {width} pixels")
        runs = encode_segmentation(value, (height, width))
        mask = np.ascontiguousarray(decode_segmentation(runs, (height, width)))
        return cls(torch.from_numpy(mask).bool())


def spread_points(mask: Tensor) -> Tensor:
    """Pixels of a mask that stand for equal parts of its area.

    Four bands of equal area from top to bottom have four parts of equal area from left to right
    each; the middle pixel of every part is taken.

    Args:
        mask: (h, w) bool, at least one pixel.

    Returns:
        (P, 2) float x, y; P = 16, or all pixels where there are fewer.
    """
    pixels = mask.nonzero().flip(1)  # row by row
    if len(pixels) <= _BANDS**2:
        return pixels.float()
    points = []
    for band in pixels.tensor_split(_BANDS):
        middles = (2 * torch.arange(_BANDS) + 1) * len(band) // (2 * _BANDS)
        points.append(band[band[:, 0].argsort(stable=True)[middles]])
    return torch.cat(points).float()


def _coarse(mask: Tensor) -> Tensor:
    """The mask (h, w) in the evaluation's cells."""
    box = _Window(mask)
    occupancy = box.occupancy(_FIXED_CELLS, 0)
    return box.paste(occupancy >= min(_FIXED_OCCUPANCY, float(occupancy.max())))


def _degraded(mask: Tensor, random: Random) -> Tensor:
    """The mask (h, w) in the training's cells; in the evaluation's where nothing would be left."""
    box = _Window(mask)
    cells = random.randint(*_CELLS)
    grid = box.occupancy(cells, _MARGIN) >= random.uniform(*_OCCUPANCY)
    for value, most in ((False, _CUT), (True, _ADDED)):
        for _ in range(random.randint(0, most)):
            y, x = (random.randrange(side) for side in grid.shape)
            radius = random.uniform(*_DISC_RADIUS) * cells
            rows, columns = (torch.arange(side) for side in grid.shape)
            grid[(rows[:, None] - y) ** 2 + (columns - x) ** 2 <= radius**2] = value
    shift = [round(random.uniform(-_SHIFT, _SHIFT) * box.extent) for _ in range(2)]
    result = box.paste(grid, shift)
    return result if result.any() else _coarse(mask)


class _Window:
    """A mask's bounding box, seen in square cells.

    Args:
        mask: (h, w) bool, at least one pixel.
    """

    def __init__(self, mask: Tensor) -> None:
        rows, columns = (mask.any(dim).nonzero().flatten() for dim in (1, 0))
        self.size = (mask.shape[0], mask.shape[1])
        self.top, self.left = int(rows[0]), int(columns[0])
        self.crop = mask[self.top : int(rows[-1]) + 1, self.left : int(columns[-1]) + 1]
        self.extent = max(self.crop.shape)
        self.side = self.margin = 0

    def occupancy(self, cells: int, margin: int) -> Tensor:
        """Share of every cell that the mask covers, with `cells` along the box's longer side.

        `margin` cells more are on each side.
        """
        self.side = math.ceil(self.extent / cells)
        self.margin = margin * self.side
        height, width = self.crop.shape
        beyond = (-width % self.side, -height % self.side)
        pad = (self.margin, self.margin + beyond[0], self.margin, self.margin + beyond[1])
        padded = F.pad(self.crop.float(), pad)
        return F.avg_pool2d(padded[None], self.side)[0]

    def paste(self, grid: Tensor, shift: Sequence[int] = (0, 0)) -> Tensor:
        """The cells that are True as a mask of the image's size, moved by (down, right) pixels."""
        cells = grid.repeat_interleave(self.side, 0).repeat_interleave(self.side, 1)
        top, left = self.top - self.margin + shift[0], self.left - self.margin + shift[1]
        mask = torch.zeros(self.size, dtype=torch.bool)
        target = mask[max(0, top) : top + cells.shape[0], max(0, left) : left + cells.shape[1]]
        source = cells[max(0, -top) :, max(0, -left) :]
        target.copy_(source[: target.shape[0], : target.shape[1]])
        return mask
