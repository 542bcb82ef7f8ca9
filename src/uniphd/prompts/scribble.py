"""Scribble prompts: a stroke over the person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

import torch
from PIL import Image
from torch import Tensor

from uniphd.data.scribbles import draw_scribble, on_mask
from uniphd.errors import PromptError
from uniphd.prompts.base import (
    Prompt,
    Tokenize,
    ratios,
    require_coordinates,
    require_points_inside,
    require_tensor,
)
from uniphd.prompts.points import PointsBlock, mirror_points, pad_points
from uniphd.structures import Size
from uniphd.visualization.canvas import paint, prompt_width

if TYPE_CHECKING:
    from uniphd.data.sample import AnnotatedPerson


@dataclass(frozen=True)
class ScribblePrompt(Prompt):
    """A stroke over the person: `points` (P, 2) float pixels; RefHuman's scribbles have 12."""

    kind: ClassVar[str] = "scribble"
    points: Tensor

    def require_sound(self) -> None:
        """Refuse a stroke without points, of another shape, or with a NaN or infinite number."""
        require_tensor(self.points, self.kind)
        if self.points.numel() == 0:
            raise PromptError("A scribble has no points; give at least one (x, y).")
        require_coordinates(self.points, self.kind, (len(self.points), 2))

    def require_inside(self, size: Size) -> None:
        """Refuse a point outside of the image."""
        require_points_inside(self.points, self.kind, size)

    def resized(self, size: Size, new: Size) -> ScribblePrompt:
        """See the base."""
        return ScribblePrompt(self.points * ratios(size, new))

    def mirrored(self, width: int) -> ScribblePrompt:
        """See the base."""
        return ScribblePrompt(mirror_points(self.points, width))

    @classmethod
    def sample(cls, person: AnnotatedPerson, random: Random) -> ScribblePrompt:
        """One of the annotated scribbles."""
        return cls(sample_stroke(person, random))

    @classmethod
    def fixed(cls, person: AnnotatedPerson) -> ScribblePrompt:
        """The first of the annotated scribbles."""
        return cls(fixed_stroke(person))

    @classmethod
    def collate(cls, prompts: Sequence[ScribblePrompt], tokenize: Tokenize) -> PointsBlock:
        """Pad the strokes to the longest."""
        return pad_points([prompt.points for prompt in prompts])

    def render(self, image: Image.Image) -> Image.Image:
        """A line through the points."""
        stroke = [(x, y) for x, y in self.points.tolist()]
        unit = prompt_width(image)
        return paint(image, lambda pen: pen.stroke(stroke, unit))


def sample_stroke(person: AnnotatedPerson, random: Random) -> Tensor:
    """Any of the annotated scribbles (12, 2), rounded down.

    Where cropping or resizing took one of its points off the mask, a fresh one is drawn. (The
    official release first clamps the points to the border of the crop.)
    """
    stroke = random.choice(person.scribbles).floor()
    mask = person.mask[0].numpy()
    if not on_mask(stroke.numpy(), mask):
        stroke = torch.from_numpy(draw_scribble(mask, random))
    return stroke


def fixed_stroke(person: AnnotatedPerson) -> Tensor:
    """The first scribble (12, 2), clamped to the image and rounded down (official release)."""
    height, width = person.size
    last = torch.tensor([width - 1, height - 1])
    return torch.minimum(person.scribbles[0], last).clamp(min=0).floor()
