"""Point prompts: one click on the person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from PIL import Image
from torch import Tensor

from uniphd.prompts.base import (
    Prompt,
    Tokenize,
    ratios,
    require_coordinates,
    require_points_inside,
)
from uniphd.prompts.points import PointsBlock, mirror_points, pad_points
from uniphd.prompts.scribble import fixed_stroke, sample_stroke
from uniphd.structures import Size
from uniphd.visualization.canvas import paint, prompt_width

if TYPE_CHECKING:
    from uniphd.data.sample import AnnotatedPerson

# RefHuman: the sixth point of the first scribble is the evaluation's click; training clicks on one
# of the points 4 to 7 of any scribble.
_FIXED_POINT = 5
_TRAINING_POINTS = (4, 7)


@dataclass(frozen=True)
class PointPrompt(Prompt):
    """One click on the person: `point` (2,) float pixels."""

    kind: ClassVar[str] = "point"
    point: Tensor

    def require_sound(self) -> None:
        """Refuse another shape, and a NaN or infinite number."""
        require_coordinates(self.point, self.kind, (2,))

    def require_inside(self, size: Size) -> None:
        """Refuse a point outside of the image."""
        require_points_inside(self.point, self.kind, size)

    def resized(self, size: Size, new: Size) -> PointPrompt:
        """See the base."""
        return PointPrompt(self.point * ratios(size, new))

    def mirrored(self, width: int) -> PointPrompt:
        """See the base."""
        return PointPrompt(mirror_points(self.point, width))

    @classmethod
    def sample(cls, person: AnnotatedPerson, random: Random) -> PointPrompt:
        """A point in the middle of any of the annotated scribbles."""
        return cls(sample_stroke(person, random)[random.randint(*_TRAINING_POINTS)])

    @classmethod
    def fixed(cls, person: AnnotatedPerson) -> PointPrompt:
        """The sixth point of the first scribble."""
        return cls(fixed_stroke(person)[_FIXED_POINT])

    @classmethod
    def collate(cls, prompts: Sequence[PointPrompt], tokenize: Tokenize) -> PointsBlock:
        """Stack the points."""
        return pad_points([prompt.point.reshape(1, 2) for prompt in prompts])

    def render(self, image: Image.Image) -> Image.Image:
        """A ringed dot."""
        x, y = self.point.tolist()
        unit = prompt_width(image)
        return paint(image, lambda pen: pen.dot((x, y), unit))
