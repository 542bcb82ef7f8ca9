"""Multimodal fusion: every picture token looks at the prompt once, before the encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uniphd.models.prompt_encoder import PromptTokens
from uniphd.prompts import PromptBatch


class PromptFusion(nn.Module):
    """`v + attention(query=v, key=prompt + position, value=prompt)`, without a norm.

    Text and positional prompts (points, scribbles, boxes) have their own weights; the levels share
    them. No position encoding is added to the picture's tokens.

    Args:
        hidden_dim: C.
        num_heads: attention heads.
    """

    def __init__(self, hidden_dim: int = 256, num_heads: int = 8) -> None:
        super().__init__()
        self.text_attention = nn.MultiheadAttention(hidden_dim, num_heads, batch_first=True)
        self.region_attention = nn.MultiheadAttention(hidden_dim, num_heads, batch_first=True)

    def forward(self, visual: Tensor, prompt: PromptTokens, prompts: PromptBatch) -> Tensor:
        """Update the picture's tokens.

        Args:
            visual: (B, S, C) tokens of all levels.
            prompt: the encoded prompts.
            prompts: says which row is of which kind.

        Returns:
            (B, S, C).
        """
        text_rows = prompts.rows("text")
        region_rows = prompts.rows("point", "scribble", "box")
        if not region_rows:
            return visual + self._attend(self.text_attention, visual, prompt)
        if not text_rows:
            return visual + self._attend(self.region_attention, visual, prompt)
        update = torch.empty_like(visual)
        for attention, rows in (
            (self.text_attention, text_rows),
            (self.region_attention, region_rows),
        ):
            update[rows] = self._attend(attention, visual[rows], _select(prompt, rows))
        return visual + update

    def _attend(
        self, attention: nn.MultiheadAttention, visual: Tensor, prompt: PromptTokens
    ) -> Tensor:
        out: Tensor = attention(
            visual,
            prompt.tokens + prompt.positions,
            prompt.tokens,
            key_padding_mask=prompt.padding,
            need_weights=False,
        )[0]
        return out


def _select(prompt: PromptTokens, rows: list[int]) -> PromptTokens:
    return PromptTokens(
        prompt.tokens[rows], prompt.positions[rows], prompt.padding[rows], prompt.summary[rows]
    )
