"""Prompts: what a user says, draws or clicks, and their batched form.

Shapes: B prompts, N prompts of a kind, P points, T text tokens. Coordinates are pixels (x, y) of
the image that the model sees (after resizing, before padding; padding is at the right and bottom,
so the same numbers hold in the padded canvas).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from uniphd.errors import PromptError

PromptKind: TypeAlias = Literal["text", "point", "scribble", "box"]
PROMPT_KINDS: tuple[PromptKind, ...] = ("text", "point", "scribble", "box")

Tokenize: TypeAlias = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Texts -> (input ids (N, T) int64, attention mask (N, T) int64, 1 on tokens)."""


@dataclass(frozen=True)
class TextPrompt:
    """A sentence that describes exactly one person of the image."""

    kind: ClassVar[PromptKind] = "text"
    text: str


@dataclass(frozen=True)
class PointPrompt:
    """One click on the person: `point` (2,) float pixels."""

    kind: ClassVar[PromptKind] = "point"
    point: Tensor


@dataclass(frozen=True)
class ScribblePrompt:
    """A stroke over the person: `points` (P, 2) float pixels; RefHuman's scribbles have 12."""

    kind: ClassVar[PromptKind] = "scribble"
    points: Tensor


@dataclass(frozen=True)
class BoxPrompt:
    """A box around the person: `box` (4,) float pixels, x1 y1 x2 y2."""

    kind: ClassVar[PromptKind] = "box"
    box: Tensor


Prompt: TypeAlias = TextPrompt | PointPrompt | ScribblePrompt | BoxPrompt


@dataclass(frozen=True)
class PromptBatch:
    """The prompts of a batch, kinds mixed freely.

    Attributes:
        kinds: the kind of every prompt, length B.
        input_ids: (N_text, T) int64, one row per text prompt in batch order.
        attention_mask: (N_text, T) int64, 1 on tokens and 0 on padding.
        points: (N_point + N_scribble, P, 2) float, one row per point or scribble in batch order.
        points_padding: (N_point + N_scribble, P) bool, True where a row has fewer than P points.
        boxes: (N_box, 4) float x1 y1 x2 y2, one row per box in batch order.
    """

    kinds: tuple[PromptKind, ...]
    input_ids: Tensor
    attention_mask: Tensor
    points: Tensor
    points_padding: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        return len(self.kinds)

    def rows(self, *kinds: PromptKind) -> list[int]:
        """Batch indices whose prompt is of one of `kinds`, ascending."""
        return [index for index, kind in enumerate(self.kinds) if kind in kinds]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PromptBatch:
        """Copy with every tensor on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PromptBatch:
        """Copy with every tensor in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> PromptBatch:
        return PromptBatch(
            kinds=self.kinds,
            input_ids=function(self.input_ids),
            attention_mask=function(self.attention_mask),
            points=function(self.points),
            points_padding=function(self.points_padding),
            boxes=function(self.boxes),
        )


_BORDER = 1.0  # pixels that rounding may put a prompt outside of the image


def require_sound(prompt: Prompt) -> None:
    """Refuse a prompt that says nothing, or nothing definite.

    Raises:
        PromptError: a text without words or of half characters; coordinates of another shape, none
            at all, or a NaN or infinite one; a box without an area.
    """
    if isinstance(prompt, TextPrompt):
        _require_words(prompt.text)
    elif isinstance(prompt, PointPrompt):
        _require_coordinates(prompt.point, prompt.kind, (2,))
    elif isinstance(prompt, ScribblePrompt):
        if len(prompt.points) == 0:
            raise PromptError("A scribble has no points; give at least one (x, y).")
        _require_coordinates(prompt.points, prompt.kind, (len(prompt.points), 2))
    else:
        _require_coordinates(prompt.box, prompt.kind, (4,))
        if not (prompt.box[2:] > prompt.box[:2]).all():
            raise PromptError(
                f"A box prompt is {prompt.box.tolist()} and has no area; give left, top, right, "
                "bottom in pixels."
            )


def require_inside(prompt: Prompt, size: tuple[int, int]) -> None:
    """Refuse a prompt that points outside of its image.

    Args:
        prompt: a sound one.
        size: (height, width) of the image, in the prompt's pixels.

    Raises:
        PromptError: a point of a click or scribble, or the whole of a box, is outside.
    """
    if isinstance(prompt, TextPrompt):
        return
    limits = torch.tensor([size[1], size[0]], dtype=torch.float32)
    if isinstance(prompt, BoxPrompt):
        inside = (prompt.box[:2] < limits).all() and (prompt.box[2:] > 0).all()
        coordinates = prompt.box
    else:
        coordinates = prompt.point if isinstance(prompt, PointPrompt) else prompt.points
        inside = ((coordinates >= -_BORDER) & (coordinates <= limits + _BORDER)).all()
    if not inside:
        raise PromptError(
            f"A {prompt.kind} prompt at {coordinates.tolist()!r:.80} is outside of its "
            f"{size[1]} x {size[0]} image; give pixels of it."
        )


def _require_words(text: str) -> None:
    if not isinstance(text, str):
        raise PromptError(f"A text prompt is a {type(text).__name__}; give a sentence.")
    if not text.strip():
        raise PromptError("A text prompt is empty; describe the person in a few words.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"A text prompt has half of a character: {text!r:.80}; write it anew."
        ) from error


def _require_coordinates(values: Tensor, kind: PromptKind, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise PromptError(f"A {kind} prompt has the shape {tuple(values.shape)} and needs {shape}.")
    if values.is_complex() or not values.float().isfinite().all():
        raise PromptError(
            f"A {kind} prompt has {values.tolist()!r:.80}; give finite numbers of pixels."
        )


def batch_prompts(prompts: Sequence[Prompt], tokenize: Tokenize) -> PromptBatch:
    """Stack prompts of any mixture of kinds.

    Raises:
        PromptError: see `require_sound`.
    """
    for prompt in prompts:
        require_sound(prompt)
    texts = [prompt.text for prompt in prompts if isinstance(prompt, TextPrompt)]
    strokes = [
        prompt.points if isinstance(prompt, ScribblePrompt) else prompt.point.reshape(1, 2)
        for prompt in prompts
        if isinstance(prompt, PointPrompt | ScribblePrompt)
    ]
    boxes = [prompt.box for prompt in prompts if isinstance(prompt, BoxPrompt)]
    empty = torch.zeros((0, 0), dtype=torch.int64)
    input_ids, attention_mask = tokenize(texts) if texts else (empty, empty)
    points, points_padding = _pad_strokes(strokes)
    return PromptBatch(
        kinds=tuple(prompt.kind for prompt in prompts),
        input_ids=input_ids,
        attention_mask=attention_mask,
        points=points,
        points_padding=points_padding,
        boxes=torch.stack(boxes).float() if boxes else torch.zeros((0, 4)),
    )


def _pad_strokes(strokes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad strokes (P_i, 2) to (N, P, 2) and say where padding is, (N, P)."""
    length = max((len(stroke) for stroke in strokes), default=0)
    points = torch.zeros((len(strokes), length, 2))
    padding = torch.ones((len(strokes), length), dtype=torch.bool)
    for row, stroke in enumerate(strokes):
        points[row, : len(stroke)] = stroke
        padding[row, : len(stroke)] = False
    return points, padding
