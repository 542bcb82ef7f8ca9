"""A kind of prompt that the package does not know: an ellipse around the person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from uniphd.data.sample import AnnotatedPerson
from uniphd.prompts import Prompt, Tokenize
from uniphd.prompts.points import PointsBlock, pad_points
from uniphd.structures import Size


@dataclass(frozen=True)
class EllipsePrompt(Prompt):
    """`centre` (2,) and `radii` (2,) in pixels; read at the centre and the four ends."""

    kind: ClassVar[str] = "ellipse"
    centre: Tensor
    radii: Tensor

    def require_sound(self) -> None:
        pass

    def require_inside(self, size: Size) -> None:
        pass

    def resized(self, size: Size, new: Size) -> EllipsePrompt:
        ratio = torch.tensor([new[1] / size[1], new[0] / size[0]])
        return EllipsePrompt(self.centre * ratio, self.radii * ratio)

    def mirrored(self, width: int) -> EllipsePrompt:
        x, y = self.centre
        return EllipsePrompt(torch.stack([width - x, y]), self.radii)

    @classmethod
    def sample(cls, person: AnnotatedPerson, random: Random) -> EllipsePrompt:
        return cls.fixed(person)

    @classmethod
    def fixed(cls, person: AnnotatedPerson) -> EllipsePrompt:
        first, last = person.box[0].split(2)
        return cls((first + last) / 2, (last - first) / 2)

    @classmethod
    def collate(cls, prompts: Sequence[EllipsePrompt], tokenize: Tokenize) -> PointsBlock:
        ends = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        return pad_points([prompt.centre + prompt.radii * ends for prompt in prompts])

    def render(self, image: Image.Image) -> Image.Image:
        return image.convert("RGB")
