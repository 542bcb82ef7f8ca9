"""Deformable encoder: the fused image tokens of all levels refine each other.

Shapes: B images, S tokens over the L levels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from uniphd.models.deformable_attention import DeformableAttention
from uniphd.models.layers import FeedForward
from uniphd.models.levels import cell_centres
from uniphd.structures import Size


class EncoderLayer(nn.Module):
    """Post-norm layer: deformable self-attention, then a feed-forward block."""

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        feedforward_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention = DeformableAttention(hidden_dim, num_heads, num_levels, num_points)
        self.norm = nn.LayerNorm(hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.feedforward = FeedForward(hidden_dim, feedforward_dim, dropout)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        reference: Tensor,
        shapes: Sequence[Size],
        padding: Tensor,
    ) -> Tensor:
        """Update tokens (B, S, C); arguments as in `DeformableEncoder.forward`."""
        update = self.attention(tokens + positions, reference, tokens, shapes, padding)
        tokens = self.norm(tokens + self.dropout(update))
        out: Tensor = self.feedforward(tokens)
        return out


class DeformableEncoder(nn.Module):
    """A stack of deformable self-attention layers with a learned embedding per level.

    Args:
        hidden_dim: C.
        num_layers: layers; 6 in the paper.
        num_heads: attention heads.
        num_levels: L.
        num_points: sampled points per level and head.
        feedforward_dim: hidden width of the feed-forward blocks.
        dropout: inside the layers; 0 in the paper.
        checkpointing: while training, keep only what enters a layer and compute the rest again in
            the backward pass: less memory, more time.
    """

    def __init__(
        self,
        hidden_dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        feedforward_dim: int = 2048,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.level_embedding = nn.Parameter(torch.randn(num_levels, hidden_dim))
        self.layers = nn.ModuleList(
            EncoderLayer(hidden_dim, num_heads, num_levels, num_points, feedforward_dim, dropout)
            for _ in range(num_layers)
        )

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        shapes: Sequence[Size],
        padding: Tensor,
        valid_ratios: Tensor,
    ) -> Tensor:
        """Refine the tokens.

        Args:
            tokens: (B, S, C) all levels one after the other, row by row.
            positions: (B, S, C) sine encodings, without the level embedding.
            shapes: (h, w) of the levels.
            padding: (B, S) bool, True on padding.
            valid_ratios: (B, L, 2) share of every level's (width, height) that is image.

        Returns:
            The memory (B, S, C).
        """
        lengths = [height * width for height, width in shapes]
        level = torch.cat(
            [
                row.expand(length, -1)
                for row, length in zip(self.level_embedding, lengths, strict=True)
            ]
        )
        positions = positions + level
        reference = reference_points(shapes, valid_ratios)
        for layer in self.layers:
            arguments = (tokens, positions, reference, shapes, padding)
            if self.checkpointing and self.training:
                tokens = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                tokens = layer(*arguments)
        return tokens


def reference_points(shapes: Sequence[Size], valid_ratios: Tensor) -> Tensor:
    """Pixel centres of every token in units of every level's padded map.

    Args:
        shapes: (h, w) of the levels.
        valid_ratios: (B, L, 2) as (width, height).

    Returns:
        (B, S, L, 2) as (x, y).
    """
    centres = [cell_centres(shape, valid_ratios[:, i]) for i, shape in enumerate(shapes)]
    return torch.cat(centres, dim=1).unsqueeze(2) * valid_ratios.unsqueeze(1)
