"""What an auxiliary loss is: one file with one class, and one entry of `loss.auxiliary`.

Shapes: B prompts, N people at most in one image, H x W the padded canvas.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from uniphd.errors import ConfigError
from uniphd.losses.targets import StackedTargets, stack_masks
from uniphd.models.outputs import TokenPredictions
from uniphd.structures import Target

if TYPE_CHECKING:
    from uniphd.models.uniphd import UniPHD


@dataclass(frozen=True)
class AuxiliaryInputs:
    """What an auxiliary loss may read.

    Attributes:
        tokens: what the network says of every image token.
        targets: one per prompt.
        stacked: the same without masks, side by side.
        image_index: B times the index of the prompt's image; None for one prompt per image.
        person_ids: B times the person that the prompt is about; None for a person per prompt.
        model: the network, for the parts of it that a loss calls.
        num_instances: divisor of sums over people.
    """

    tokens: TokenPredictions
    targets: Sequence[Target]
    stacked: StackedTargets
    image_index: Sequence[int] | None
    person_ids: Sequence[int] | None
    model: UniPHD
    num_instances: float | Tensor

    @cached_property
    def masks(self) -> Tensor:
        """(B, N, H, W) bool on the padded canvas."""
        return stack_masks(self.targets, self.tokens.canvas)


@dataclass(frozen=True)
class AuxiliaryLoss(ABC):
    """A loss beside the published ones.

    Attributes:
        weight: of this loss beside all others; 0 leaves it out after a warm-up.

    Raises:
        ConfigError: a number is negative or not finite.
    """

    weight: float

    def __post_init__(self) -> None:
        values = [list(v) if isinstance(v, Sequence) else [v] for v in astuple(self)]
        if not all(0 <= number < math.inf for numbers in values for number in numbers):
            raise ConfigError(
                f"{self} has a number that is negative or not finite; use 0 to leave a part out."
            )

    def check(self, model: UniPHD) -> None:  # noqa: B027 - most need nothing
        """Raise ConfigError where the network does not give what this loss reads."""

    @abstractmethod
    def __call__(self, inputs: AuxiliaryInputs) -> Tensor:
        """The unweighted loss of a batch, ()."""


@dataclass(frozen=True)
class WarmUp:
    """The first steps of a run, in which only some auxiliary losses are trained.

    Nothing behind the fusion is computed but what these losses read, and they read it from the
    fused tokens, as if the encoder changed nothing.

    Attributes:
        steps: optimizer steps.
        weights: by name of the auxiliary loss; None for its own weight. Losses that are left out
            of the training are left out here, too.

    Raises:
        ConfigError: the steps or a weight are negative or not finite.
    """

    steps: int
    weights: Mapping[str, float | None]

    def __post_init__(self) -> None:
        numbers = [self.steps, *(weight or 0 for weight in self.weights.values())]
        if not all(0 <= number < math.inf for number in numbers):
            raise ConfigError(
                f"loss.warmup has a number that is negative or not finite: steps={self.steps}, "
                f"weights={dict(self.weights)}; use 0 to leave a loss out, or loss.warmup=null."
            )
