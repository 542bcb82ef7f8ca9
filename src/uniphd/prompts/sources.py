"""Which prompts of a batch are texts: the two sources have weights of their own.

Shapes: B prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

OfRows: TypeAlias = Callable[[Tensor | None], Tensor]
"""Something computed for the rows of a batch with these indices; for all of them where None."""


class PromptSources(Protocol):
    """A batch of prompts, as far as a fusion has to know it."""

    def per_source(self, device: torch.device, text: OfRows, spatial: OfRows) -> Tensor:
        """Compute rows of text and of spatial prompts by their own functions, in batch order.

        Args:
            device: of the indices.
            text: gives rows (N, S, C) of text prompts.
            spatial: likewise of the others.
        """
        ...


@dataclass(frozen=True)
class TextMask:
    """Which rows are texts is data, as in a graph: both are computed for all, and one is taken.

    Attributes:
        is_text: (B,) bool.
    """

    is_text: Tensor

    def per_source(self, device: torch.device, text: OfRows, spatial: OfRows) -> Tensor:
        """See `PromptSources`."""
        return torch.where(self.is_text[:, None, None], text(None), spatial(None))
