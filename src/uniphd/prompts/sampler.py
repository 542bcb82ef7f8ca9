"""From an annotated person to the prompt of one training or evaluation sample.

The kind of prompt is data: it is drawn here, sample by sample, and never inside the network.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Protocol

from uniphd.errors import ConfigError, PromptError
from uniphd.prompts.base import Prompt
from uniphd.prompts.kinds import find_kind

if TYPE_CHECKING:
    from uniphd.data.sample import AnnotatedPerson

_PAPER = {"text": 0.5, "point": 0.25, "scribble": 0.25}


class SamplePrompt(Protocol):
    """How a data set makes the prompt of a sample.

    Attributes:
        kinds: names of the kinds that it may make.
        scribble_kinds: those of them that are made of annotated scribbles.
        caption_kinds: those of them that are made of captions. A person without captions is asked
            for only where there are others.
    """

    kinds: tuple[str, ...]
    scribble_kinds: tuple[str, ...]
    caption_kinds: tuple[str, ...]

    def __call__(self, person: AnnotatedPerson, random: Random) -> Prompt:
        """Return the prompt for a person, with random numbers from `random`."""
        ...


class FixedPrompt:
    """The prompt of the evaluation: nothing about it is random.

    Args:
        kind: its name, or the dotted path of its class; see `find_kind`.

    Attributes:
        kind: as it was given; metrics and images call it so.
        kinds: this one.
        scribble_kinds: this one, or none.
        caption_kinds: this one, or none.

    Raises:
        ConfigError: there is no such kind.
    """

    def __init__(self, kind: str) -> None:
        self._kind = find_kind(kind)
        self.kind = kind
        self.kinds: tuple[str, ...] = (self.kind,)
        self.scribble_kinds: tuple[str, ...] = self.kinds if self._kind.reads_scribbles else ()
        self.caption_kinds: tuple[str, ...] = self.kinds if self._kind.reads_captions else ()

    def __call__(self, person: AnnotatedPerson, random: Random) -> Prompt:
        """See `Prompt.fixed`."""
        return self._kind.fixed(person)


class PromptSampler:
    """Draw the kind of prompt for every training sample, and the prompt itself.

    The paper takes text or a spatial prompt with equal probability and the official code splits
    the latter evenly into points and scribbles. There it is one kind per batch; here every sample
    draws its own. For a person without captions, the kinds that are made of them have no weight.

    Args:
        weights: by kind, its name or the dotted path of its class; other kinds are not drawn. They
            need not sum to one. Without any, the paper's.

    Raises:
        ConfigError: a weight is negative, none is above zero, or there is no such kind.
    """

    def __init__(self, **weights: float) -> None:
        weights = weights or _PAPER
        if min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise ConfigError(f"Prompt weights {weights} need one above 0 and none below it.")
        self._kinds = [find_kind(name) for name in weights]
        self.weights = dict(weights)
        pairs = zip(self._kinds, weights.values(), strict=True)
        drawn = [kind for kind, weight in pairs if weight > 0]
        self.kinds = tuple(kind.kind for kind in drawn)
        self.scribble_kinds = tuple(kind.kind for kind in drawn if kind.reads_scribbles)
        self.caption_kinds = tuple(kind.kind for kind in drawn if kind.reads_captions)

    def __call__(self, person: AnnotatedPerson, random: Random) -> Prompt:
        """Draw a kind and its prompt.

        Raises:
            PromptError: the person has no captions, and no other kind has a weight.
        """
        weights = [
            0.0 if kind.reads_captions and not person.captions else weight
            for kind, weight in zip(self._kinds, self.weights.values(), strict=True)
        ]
        if not any(weights):
            raise PromptError("A person has no caption and is to be asked for by text; write one.")
        return random.choices(self._kinds, weights)[0].sample(person, random)
