"""Box prompts, which the paper does not have: a box around the person.

Shapes: N boxes, D features, h x w the stride-16 map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import roi_align

from uniphd.errors import PromptError
from uniphd.prompts.base import (
    Prompt,
    SpatialBlock,
    SpatialTokens,
    Tokenize,
    outside,
    ratios,
    require_coordinates,
)
from uniphd.structures import Size
from uniphd.visualization.canvas import paint, prompt_width

if TYPE_CHECKING:
    from uniphd.data.sample import AnnotatedPerson

_GRID = 4  # cells per side that a box is read at (official release)
_JITTER = 0.05  # of the box's extent, by which each side moves at most in training


@dataclass(frozen=True)
class BoxPrompt(Prompt):
    """A box around the person: `box` (4,) float pixels, x1 y1 x2 y2."""

    kind: ClassVar[str] = "box"
    reads_scribbles: ClassVar[bool] = False
    box: Tensor

    def require_sound(self) -> None:
        """Refuse another shape, a NaN or infinite number, and a box without an area."""
        require_coordinates(self.box, self.kind, (4,))
        if not (self.box[2:] > self.box[:2]).all():
            raise PromptError(
                f"A box prompt is {self.box.tolist()} and has no area; give left, top, right, "
                "bottom in pixels."
            )

    def require_inside(self, size: Size) -> None:
        """Refuse a box that is outside of the image as a whole."""
        limits = torch.tensor([size[1], size[0]], dtype=torch.float32)
        if not ((self.box[:2] < limits).all() and (self.box[2:] > 0).all()):
            raise outside(self.box, self.kind, size)

    def resized(self, size: Size, new: Size) -> BoxPrompt:
        """See the base."""
        return BoxPrompt(self.box * ratios(size, new).repeat(2))

    def mirrored(self, width: int) -> BoxPrompt:
        """See the base."""
        x1, y1, x2, y2 = self.box
        return BoxPrompt(torch.stack([width - x2, y1, width - x1, y2]))

    @classmethod
    def sample(cls, person: AnnotatedPerson, random: Random) -> BoxPrompt:
        """The annotated box with every side moved at random, inside the image."""
        height, width = person.size
        box = person.box[0]
        extent = (box[2:] - box[:2]).repeat(2)
        moves = torch.tensor([random.uniform(-_JITTER, _JITTER) for _ in range(4)])
        limits = torch.tensor([width, height, width, height])
        return cls(torch.minimum(box + extent * moves, limits).clamp(min=0))

    @classmethod
    def fixed(cls, person: AnnotatedPerson) -> BoxPrompt:
        """The annotated box."""
        return cls(person.box[0])

    @classmethod
    def collate(cls, prompts: Sequence[BoxPrompt], tokenize: Tokenize) -> BoxBlock:
        """Stack the boxes."""
        return BoxBlock(torch.stack([prompt.box for prompt in prompts]).float())

    def render(self, image: Image.Image) -> Image.Image:
        """A frame."""
        x1, y1, x2, y2 = self.box.tolist()
        unit = prompt_width(image)
        frame = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
        return paint(image, lambda pen: pen.stroke(frame, unit))


@dataclass(frozen=True)
class BoxBlock(SpatialBlock):
    """Boxes, each read at a grid of 4 x 4 cells.

    Attributes:
        boxes: (N, 4) float x1 y1 x2 y2.
    """

    boxes: Tensor

    def read(self, features: Tensor, positions: Tensor, canvas: Size) -> SpatialTokens:
        """See the base."""
        read = sample_boxes(features, self.boxes, canvas)
        padding = torch.zeros(read.shape[:2], dtype=torch.bool, device=read.device)
        return SpatialTokens(read, sample_boxes(positions, self.boxes, canvas), padding)


def sample_boxes(source: Tensor, boxes: Tensor, canvas: Size) -> Tensor:
    """Read a 4 x 4 grid of cells inside each box.

    Args:
        source: (N, D, h, w).
        boxes: (N, 4) pixels x1 y1 x2 y2; clamped to the canvas.
        canvas: (height, width) of the canvas in pixels.

    Returns:
        (N, 16, D), row by row.
    """
    height, width = canvas
    scale = torch.tensor([width, height, width, height], dtype=boxes.dtype)
    scale = scale.to(boxes.device, non_blocking=True)
    clamped = (boxes / scale).clamp(0, 1) * scale
    index = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    rois = torch.cat([index.unsqueeze(1), clamped], dim=1)
    cells: Tensor = roi_align(
        source.float(), rois, _GRID, spatial_scale=source.shape[-1] / width, aligned=True
    )
    return cells.to(source.dtype).flatten(2).transpose(1, 2)
