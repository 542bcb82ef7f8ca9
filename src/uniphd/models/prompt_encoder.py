"""Prompt encoder: a text, or a place in the image, as tokens in one common space.

Shapes: B prompts, each with its image, N prompts of a group, T tokens, C channels, D features of
the source (language model or backbone map), h x w the stride-16 map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.models.layers import mean_over_tokens, require_positive, select_rows
from uniphd.models.position import sine_position_1d
from uniphd.models.text_encoder import TextEncoder
from uniphd.prompts import PromptBatch, TextBlock
from uniphd.prompts.base import SpatialTokens
from uniphd.structures import Size


@dataclass(frozen=True)
class PromptTokens:
    """A batch of encoded prompts.

    Attributes:
        tokens: (B, T, C).
        positions: (B, T, C) their position encoding.
        padding: (B, T) bool, True where a prompt has fewer than T tokens.
        global_embedding: (B, C) one vector per prompt; the instance query of the decoder.
    """

    tokens: Tensor
    positions: Tensor
    padding: Tensor
    global_embedding: Tensor


class Projection(nn.Module):
    """Linear, LayerNorm (eps 1e-12), dropout: brings a source's features into the common space."""

    def __init__(self, in_dim: int, out_dim: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)
        self.norm = nn.LayerNorm(out_dim, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_dim) to (..., out_dim)."""
        out: Tensor = self.dropout(self.norm(self.linear(x)))
        return out


class PromptEncoder(nn.Module):
    """Encode one prompt per image; kinds may be mixed within a batch.

    Args:
        text_encoder: the language model.
        feature_dim: channels of the stride-16 backbone map that spatial prompts are read from.
        hidden_dim: C.
        dropout: after every projection; 0.1 in the official release.
        position_in_values: add a learned projection of the position encoding to the tokens of
            spatial prompts, and with them to their global embedding. As published a position is
            only in an attention's key: one point gives one key, so every image token reads the
            same value, and where the point is shows only in what the features there look like.

    Raises:
        ConfigError: C is below 1.
    """

    def __init__(
        self,
        text_encoder: TextEncoder,
        feature_dim: int,
        hidden_dim: int = 256,
        dropout: float = 0.1,
        position_in_values: bool = False,
    ) -> None:
        super().__init__()
        require_positive(hidden_dim=hidden_dim)
        self.hidden_dim = hidden_dim
        self.text_encoder = text_encoder
        self.word_projection = Projection(text_encoder.hidden_size, hidden_dim, dropout)
        self.sentence_projection = Projection(text_encoder.hidden_size, hidden_dim, dropout)
        self.spatial_projection = Projection(feature_dim, hidden_dim, dropout)
        self.spatial_global_projection = Projection(hidden_dim, hidden_dim, dropout)
        self.position_projection = nn.Linear(hidden_dim, hidden_dim) if position_in_values else None

    def forward(
        self, prompts: PromptBatch, features: Tensor, positions: Tensor, canvas: Size
    ) -> PromptTokens:
        """Encode the prompts.

        Args:
            prompts: one prompt per image.
            features: (B, D, h, w) stride-16 backbone map.
            positions: (B, C, h, w) its position encoding.
            canvas: (height, width) of the padded images, in pixels.
        """
        groups = [(rows, self.encode_text(block)) for rows, block in prompts.texts]
        for rows, block in prompts.spatial:
            index = torch.tensor(rows).to(features.device, non_blocking=True)
            maps = (select_rows(features, index), select_rows(positions, index))
            read = block.read(*maps, canvas)
            groups.append((rows, self.encode_spatial(read)))
        return _merge(groups)

    def encode_text(self, texts: TextBlock) -> PromptTokens:
        """Encode texts, which need no image."""
        hidden, pooled = self.text_encoder(texts.input_ids, texts.attention_mask)
        padding = texts.attention_mask == 0
        return PromptTokens(
            tokens=self.word_projection(hidden),
            positions=sine_position_1d(padding, self.hidden_dim),
            padding=padding,
            global_embedding=self.sentence_projection(pooled),
        )

    def encode_spatial(self, read: SpatialTokens) -> PromptTokens:
        """Encode what prompts read of the image."""
        tokens = self.spatial_projection(read.features)
        if self.position_projection is not None:
            tokens = tokens + self.position_projection(read.positions)
        embedding = self.spatial_global_projection(mean_over_tokens(tokens, read.padding))
        return PromptTokens(tokens, read.positions, read.padding, embedding)


def _merge(groups: list[tuple[list[int], PromptTokens]]) -> PromptTokens:
    """Bring encoded groups of prompts back into batch order, padded to the longest."""
    if len(groups) == 1:
        return groups[0][1]
    length = max(group.tokens.shape[1] for _, group in groups)
    order = torch.tensor([row for rows, _ in groups for row in rows])
    inverse = order.argsort().to(groups[0][1].tokens.device, non_blocking=True)

    def stack(parts: list[Tensor], pad_value: float) -> Tensor:
        padded = [
            F.pad(part, (0, 0) * (part.dim() - 2) + (0, length - part.shape[1]), value=pad_value)
            for part in parts
        ]
        return select_rows(torch.cat(padded), inverse)

    return PromptTokens(
        tokens=stack([group.tokens for _, group in groups], 0.0),
        positions=stack([group.positions for _, group in groups], 0.0),
        padding=stack([group.padding for _, group in groups], True),
        global_embedding=select_rows(
            torch.cat([group.global_embedding for _, group in groups]), inverse
        ),
    )
