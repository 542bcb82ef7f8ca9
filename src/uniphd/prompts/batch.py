"""The prompts of a batch: one block of tensors per kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from uniphd.prompts.base import Block, Prompt, SpatialBlock, Tokenize
from uniphd.prompts.sources import OfRows
from uniphd.prompts.text import TextBlock

_Block = TypeVar("_Block", bound=Block)


@dataclass(frozen=True)
class PromptBatch:
    """B prompts, kinds mixed freely.

    Attributes:
        kinds: the kind of every prompt, length B.
        blocks: by kind, the prompts of that kind in batch order.
    """

    kinds: tuple[str, ...]
    blocks: Mapping[str, Block]

    def __len__(self) -> int:
        return len(self.kinds)

    def rows(self, kind: str) -> list[int]:
        """Batch indices of the prompts of a kind, ascending."""
        return [index for index, other in enumerate(self.kinds) if other == kind]

    @property
    def texts(self) -> list[tuple[list[int], TextBlock]]:
        """Blocks for the language model, with the batch indices of their rows."""
        return self._blocks(TextBlock)

    @property
    def spatial(self) -> list[tuple[list[int], SpatialBlock]]:
        """Blocks that read the image, with the batch indices of their rows."""
        return self._blocks(SpatialBlock)  # type: ignore[type-abstract]

    def _blocks(self, of: type[_Block]) -> list[tuple[list[int], _Block]]:
        return [(self.rows(k), block) for k, block in self.blocks.items() if isinstance(block, of)]

    def per_source(self, device: torch.device, text: OfRows, spatial: OfRows) -> Tensor:
        """See `PromptSources`. A function without rows is not called."""
        text_rows = [row for rows, _ in self.texts for row in rows]
        spatial_rows = [row for rows, _ in self.spatial for row in rows]
        if not spatial_rows:
            return text(None)
        if not text_rows:
            return spatial(None)
        order = torch.tensor(text_rows + spatial_rows)
        both = torch.stack([order, order.argsort()]).to(device, non_blocking=True)
        of_text, of_spatial = both[0].split([len(text_rows), len(spatial_rows)])
        return torch.cat([text(of_text), spatial(of_spatial)]).index_select(0, both[1])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PromptBatch:
        """Copy with every tensor on `device`."""
        blocks = {kind: block.to(device, non_blocking) for kind, block in self.blocks.items()}
        return replace(self, blocks=blocks)

    def pin_memory(self) -> PromptBatch:
        """Copy with every tensor in page-locked memory."""
        blocks = {kind: block.pin_memory() for kind, block in self.blocks.items()}
        return replace(self, blocks=blocks)


def batch_prompts(prompts: Sequence[Prompt], tokenize: Tokenize) -> PromptBatch:
    """Stack prompts of any mixture of kinds.

    Raises:
        PromptError: see `Prompt.require_sound`.
    """
    groups: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        prompt.require_sound()
        groups.setdefault(prompt.kind, []).append(prompt)
    return PromptBatch(
        kinds=tuple(prompt.kind for prompt in prompts),
        blocks={kind: group[0].collate(group, tokenize) for kind, group in groups.items()},
    )
