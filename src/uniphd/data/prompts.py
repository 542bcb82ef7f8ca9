"""From an annotated person to the prompt of one training or evaluation sample.

The kind of prompt is data: it is drawn here, sample by sample, and never inside the network.
"""

from __future__ import annotations

from random import Random
from typing import Protocol

import torch
from torch import Tensor

from uniphd.data.sample import AnnotatedPerson
from uniphd.data.scribbles import draw_scribble, on_mask
from uniphd.errors import ConfigError
from uniphd.prompts import (
    PROMPT_KINDS,
    BoxPrompt,
    PointPrompt,
    Prompt,
    PromptKind,
    ScribblePrompt,
    TextPrompt,
)

# RefHuman: the first of five scribbles, and its sixth point, are the prompts of the evaluation;
# training clicks on one of the points 4 to 7.
_EVALUATION_POINT = 5
_TRAINING_POINTS = (4, 7)


class DrawPrompt(Protocol):
    """How a data set makes the prompt of a sample."""

    def __call__(self, person: AnnotatedPerson, random: Random) -> Prompt:
        """Return the prompt for a preprocessed person, with random numbers from `random`."""
        ...


class FixedPrompt:
    """The prompt of the evaluation: nothing about it is random.

    Args:
        kind: text, point, scribble or box.

    Raises:
        ConfigError: `kind` is none of these.
    """

    def __init__(self, kind: PromptKind) -> None:
        self.kind: PromptKind = _known(kind)

    def __call__(self, person: AnnotatedPerson, random: Random) -> Prompt:
        """The caption, the annotated box, the first scribble, or that scribble's sixth point."""
        if self.kind == "text":
            return TextPrompt(person.caption)
        if self.kind == "box":
            return BoxPrompt(person.box[0])
        stroke = _first_scribble(person)
        if self.kind == "point":
            return PointPrompt(stroke[_EVALUATION_POINT])
        return ScribblePrompt(stroke)


class PromptSampler:
    """Draw the kind of prompt for every training sample, and the prompt itself.

    The paper takes text or a positional prompt with equal probability and the official code splits
    the latter evenly. There it is one kind per batch; here every sample draws its own.

    Args:
        text: weight of captions.
        point: weight of clicks: point 4 to 7 of one of the five scribbles.
        scribble: weight of strokes: one of the five scribbles.
        box: weight of boxes, which the paper does not have.
        box_jitter: each side of a box moves by up to this part of the box's width or height.

    Raises:
        ConfigError: a number is negative, or no weight is above zero.
    """

    def __init__(
        self,
        text: float = 0.5,
        point: float = 0.25,
        scribble: float = 0.25,
        box: float = 0.0,
        box_jitter: float = 0.05,
    ) -> None:
        weights = {"text": text, "point": point, "scribble": scribble, "box": box}
        if min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise ConfigError(f"Prompt weights {weights} need one above 0 and none below it.")
        if not 0 <= box_jitter < 0.5:
            raise ConfigError(f"box_jitter is {box_jitter}; give a number in [0, 0.5).")
        self.weights = [weights[kind] for kind in PROMPT_KINDS]
        self.box_jitter = box_jitter

    def __call__(self, person: AnnotatedPerson, random: Random) -> Prompt:
        """Draw a kind and its prompt."""
        kind = random.choices(PROMPT_KINDS, self.weights)[0]
        return draw_prompt(person, kind, random, self.box_jitter)


def draw_prompt(
    person: AnnotatedPerson, kind: PromptKind, random: Random, box_jitter: float = 0.0
) -> Prompt:
    """Draw a training prompt of a given kind.

    Where cropping or resizing took a point of the chosen scribble off the mask, a fresh one is
    drawn. (The official release first clamps the points to the border of the crop.)

    Args:
        person: preprocessed.
        kind: of the prompt.
        random: where random numbers come from.
        box_jitter: as in `PromptSampler`.
    """
    if kind == "text":
        return TextPrompt(random.choice((person.caption, *person.other_captions)))
    if kind == "box":
        return BoxPrompt(_jitter(person, random, box_jitter))
    stroke = random.choice(person.scribbles).floor()
    mask = person.mask[0].numpy()
    if not on_mask(stroke.numpy(), mask):
        stroke = torch.from_numpy(draw_scribble(mask, random))
    if kind == "point":
        return PointPrompt(stroke[random.randint(*_TRAINING_POINTS)])
    return ScribblePrompt(stroke)


def _first_scribble(person: AnnotatedPerson) -> Tensor:
    """The first scribble (12, 2), clamped to the image and rounded down (official release)."""
    height, width = person.size
    last = torch.tensor([width - 1, height - 1])
    return torch.minimum(person.scribbles[0], last).clamp(min=0).floor()


def _jitter(person: AnnotatedPerson, random: Random, amount: float) -> Tensor:
    """The box (4,) with every side moved at random, inside the image."""
    height, width = person.size
    box = person.box[0]
    extent = (box[2:] - box[:2]).repeat(2)
    moves = torch.tensor([random.uniform(-amount, amount) for _ in range(4)])
    limits = torch.tensor([width, height, width, height])
    return torch.minimum(box + extent * moves, limits).clamp(min=0)


def _known(kind: str) -> PromptKind:
    for known in PROMPT_KINDS:
        if kind == known:
            return known
    raise ConfigError(f"{kind!r} is no kind of prompt; choose from {', '.join(PROMPT_KINDS)}.")
