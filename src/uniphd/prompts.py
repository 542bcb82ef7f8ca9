"""Prompts: what a user says, draws or clicks, and their batched form.

Shapes: B prompts, N prompts of a kind, P points, T text tokens. Coordinates are pixels (x, y) of
the picture that the model sees (after resizing, before padding; padding is at the right and bottom,
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
    """A sentence that describes exactly one person of the picture."""

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


def batch_prompts(prompts: Sequence[Prompt], tokenize: Tokenize) -> PromptBatch:
    """Stack prompts of any mixture of kinds.

    Raises:
        PromptError: a scribble without points, or a text without words.
    """
    texts = [prompt.text for prompt in prompts if isinstance(prompt, TextPrompt)]
    if any(not text.strip() for text in texts):
        raise PromptError("A text prompt is empty; describe the person in a few words.")
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
    if any(len(stroke) == 0 for stroke in strokes):
        raise PromptError("A scribble has no points; give at least one (x, y).")
    length = max((len(stroke) for stroke in strokes), default=0)
    points = torch.zeros((len(strokes), length, 2))
    padding = torch.ones((len(strokes), length), dtype=torch.bool)
    for row, stroke in enumerate(strokes):
        points[row, : len(stroke)] = stroke
        padding[row, : len(stroke)] = False
    return points, padding
