"""What every kind of prompt can do, alone and as a block of a batch.

Shapes: N prompts of a kind, T tokens, C channels, D features of the stride-16 backbone map h x w.
Coordinates are pixels (x, y) of the image that the model sees (after resizing, before padding;
padding is at the right and bottom, so the same numbers hold in the padded canvas).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from uniphd.errors import PromptError
from uniphd.structures import Size

if TYPE_CHECKING:
    from typing_extensions import Self

    from uniphd.data.sample import AnnotatedPerson

Tokenize: TypeAlias = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Texts -> (input ids (N, T) int64, attention mask (N, T) int64, 1 on tokens)."""

_BORDER = 1.0  # pixels that rounding may put a point outside of the image


def read_part(tokenize: Tokenize, text: str) -> str:
    """The beginning of a text that a tokenizer reads; all of it where the tokenizer cannot say.

    Args:
        tokenize: may have a method `read_part`.
        text: any.
    """
    part: Callable[[str], str] | None = getattr(tokenize, "read_part", None)
    return text if part is None else part(text)


class Prompt(ABC):
    """One prompt. A subclass is a kind: a frozen dataclass in a file of its own.

    Its fields are tensors; one with other fields has its own `to_json` and `from_json`.
    """

    kind: ClassVar[str]
    """Name of the kind in configurations, metrics and JSON."""

    reads_scribbles: ClassVar[bool] = True
    """Whether a prompt is made of the annotated scribbles, which people may otherwise lack."""

    reads_captions: ClassVar[bool] = False
    """Whether a prompt is made of the person's captions, which people may otherwise lack."""

    @abstractmethod
    def require_sound(self) -> None:
        """Raise PromptError where the prompt says nothing, or nothing definite."""

    @abstractmethod
    def require_inside(self, size: Size) -> None:
        """Raise PromptError where a sound prompt is outside of its image of (height, width)."""

    @abstractmethod
    def resized(self, size: Size, new: Size) -> Self:
        """The prompt after its image was resized from `size` to `new`, (height, width) each."""

    @abstractmethod
    def mirrored(self, width: int) -> Self:
        """The prompt after its image, `width` pixels wide, was mirrored left and right."""

    @classmethod
    @abstractmethod
    def sample(cls, person: AnnotatedPerson, random: Random) -> Self:
        """Draw a prompt for training."""

    @classmethod
    @abstractmethod
    def fixed(cls, person: AnnotatedPerson) -> Self:
        """The prompt of the evaluation; nothing about it is random."""

    @classmethod
    @abstractmethod
    def collate(cls, prompts: Sequence[Self], tokenize: Tokenize) -> Block:
        """Stack at least one sound prompt of this kind."""

    @abstractmethod
    def render(self, image: Image.Image) -> Image.Image:
        """RGB copy of `image` with the prompt drawn on it, in the image's pixels."""

    def describe(self) -> str:
        """One line about the prompt."""
        return f"{self.kind} prompt"

    def to_json(self) -> dict[str, Any]:
        """Plain values by field, without the kind; see `uniphd.prompts.prompt_from_json`."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            KeyError: a value is missing.
            TypeError: a value is of another type.
            ValueError: a value makes no sense.
        """
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: torch.tensor(value[name], dtype=torch.float32) for name in names})


@dataclass(frozen=True)
class Block:
    """The prompts of one kind in a batch, as tensors with one row per prompt in batch order."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Copy with every tensor on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Copy with every tensor in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{f.name: function(getattr(self, f.name)) for f in fields(self)})


class SpatialTokens(NamedTuple):
    """What spatial prompts read of the image.

    Attributes:
        features: (N, T, D).
        positions: (N, T, C) the position encoding.
        padding: (N, T) bool, True where a prompt has fewer than T tokens.
    """

    features: Tensor
    positions: Tensor
    padding: Tensor


@dataclass(frozen=True)
class SpatialBlock(Block, ABC):
    """Prompts that point at a place of the image: points, scribbles, boxes, masks."""

    @abstractmethod
    def read(self, features: Tensor, positions: Tensor, canvas: Size) -> SpatialTokens:
        """Read the prompts' places in the stride-16 map.

        Args:
            features: (N, D, h, w) the map, one row per prompt.
            positions: (N, C, h, w) its position encoding.
            canvas: (height, width) of the padded images, in pixels.
        """


def require_tensor(values: Any, kind: str) -> None:
    """Raise PromptError unless `values` is a tensor."""
    if not isinstance(values, Tensor):
        raise PromptError(
            f"A {kind} prompt is made of a {type(values).__name__}; make it of a torch.Tensor, or "
            f"give plain values as {kind}=... to Predictor.predict."
        )


def require_coordinates(values: Tensor, kind: str, shape: tuple[int, ...]) -> None:
    """Raise PromptError unless `values` are finite numbers of this shape."""
    require_tensor(values, kind)
    if values.shape != shape:
        raise PromptError(f"A {kind} prompt has the shape {tuple(values.shape)} and needs {shape}.")
    if values.is_complex() or not values.float().isfinite().all():
        raise PromptError(
            f"A {kind} prompt has {values.tolist()!r:.80}; give finite numbers of pixels."
        )


def require_points_inside(points: Tensor, kind: str, size: Size) -> None:
    """Raise PromptError where one of the points (..., 2) is outside of an image."""
    limits = torch.tensor([size[1], size[0]], dtype=torch.float32)
    if not ((points >= -_BORDER) & (points <= limits + _BORDER)).all():
        raise outside(points, kind, size)


def outside(coordinates: Tensor, kind: str, size: Size) -> PromptError:
    """The error for a prompt outside of its image of (height, width)."""
    return PromptError(
        f"A {kind} prompt at {coordinates.tolist()!r:.80} is outside of its "
        f"{size[1]} x {size[0]} image; give pixels of it."
    )


def ratios(size: Size, new: Size) -> Tensor:
    """Factor (2,) for (x, y) when an image is resized from `size` to `new`."""
    return torch.tensor([new[1] / size[1], new[0] / size[0]])
