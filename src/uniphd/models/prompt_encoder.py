"""Prompt encoder: a sentence, a click, a scribble or a box as tokens in one common space.

Shapes: B images, N prompts of a group, T prompt tokens, C channels, D features of the source
(language model or backbone map), h x w the stride-16 map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from uniphd.models.layers import mean_over_tokens
from uniphd.models.position import sine_position_1d
from uniphd.models.text_encoder import TextEncoder
from uniphd.prompts import PromptBatch
from uniphd.structures import Size

_BOX_GRID = 4  # cells per side that a box prompt is sampled at (official release)


@dataclass(frozen=True)
class PromptTokens:
    """A batch of encoded prompts.

    Attributes:
        tokens: (B, T, C).
        positions: (B, T, C) their position encoding.
        padding: (B, T) bool, True where a prompt has fewer than T tokens.
        summary: (B, C) one vector per prompt; the instance query of the decoder.
    """

    tokens: Tensor
    positions: Tensor
    padding: Tensor
    summary: Tensor


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
        feature_dim: channels of the stride-16 backbone map that points and boxes are sampled from.
        hidden_dim: C.
        dropout: after every projection; 0.1 in the official release.
        position_in_values: add a learned projection of the position encoding to the tokens of
            points, scribbles and boxes, and with them to their summary. As published a position is
            only in an attention's key: one point gives one key, so every image token reads the
            same value, and where the point is shows only in what the features there look like.
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
        self.hidden_dim = hidden_dim
        self.text_encoder = text_encoder
        self.word_projection = Projection(text_encoder.hidden_size, hidden_dim, dropout)
        self.sentence_projection = Projection(text_encoder.hidden_size, hidden_dim, dropout)
        self.region_projection = Projection(feature_dim, hidden_dim, dropout)
        self.region_summary = Projection(hidden_dim, hidden_dim, dropout)
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
        groups: list[tuple[list[int], PromptTokens]] = []
        if rows := prompts.rows("text"):
            groups.append((rows, self.encode_text(prompts)))
        if rows := prompts.rows("point", "scribble"):
            sampled = sample_points(features[rows], prompts.points, canvas)
            encoding = sample_points(positions[rows], prompts.points, canvas)
            groups.append((rows, self._encode_region(sampled, encoding, prompts.points_padding)))
        if rows := prompts.rows("box"):
            sampled = sample_boxes(features[rows], prompts.boxes, canvas)
            encoding = sample_boxes(positions[rows], prompts.boxes, canvas)
            padding = torch.zeros(sampled.shape[:2], dtype=torch.bool, device=sampled.device)
            groups.append((rows, self._encode_region(sampled, encoding, padding)))
        return _merge(groups)

    def encode_text(self, prompts: PromptBatch) -> PromptTokens:
        """Encode the sentences among the prompts, which need no image."""
        hidden, sentence = self.text_encoder(prompts.input_ids, prompts.attention_mask)
        padding = prompts.attention_mask == 0
        return PromptTokens(
            tokens=self.word_projection(hidden),
            positions=sine_position_1d(padding, self.hidden_dim),
            padding=padding,
            summary=self.sentence_projection(sentence),
        )

    def _encode_region(self, features: Tensor, positions: Tensor, padding: Tensor) -> PromptTokens:
        """Encode sampled features (N, T, D) and positions (N, T, C)."""
        tokens = self.region_projection(features)
        if self.position_projection is not None:
            tokens = tokens + self.position_projection(positions)
        summary = self.region_summary(mean_over_tokens(tokens, padding))
        return PromptTokens(tokens, positions, padding, summary)


def sample_points(source: Tensor, points: Tensor, canvas: Size) -> Tensor:
    """Read a map bilinearly at points in canvas pixels.

    Args:
        source: (N, D, h, w).
        points: (N, P, 2) pixels (x, y); clamped to the canvas.
        canvas: (height, width) of the canvas in pixels.

    Returns:
        (N, P, D).
    """
    extent = points.new_tensor([canvas[1], canvas[0]])
    grid = (points / extent).clamp(0, 1) * 2 - 1
    sampled = F.grid_sample(source, grid.unsqueeze(2).to(source.dtype), align_corners=True)
    return sampled.squeeze(3).transpose(1, 2)


def sample_boxes(source: Tensor, boxes: Tensor, canvas: Size) -> Tensor:
    """Read a 4 x 4 grid of cells inside each box.

    Args:
        source: (N, D, h, w).
        boxes: (N, 4) pixels x1 y1 x2 y2; clamped to the canvas.
        canvas: (height, width) of the canvas in pixels.

    Returns:
        (N, 16, D), row by row.
    """
    height, width = canvas
    scale = torch.tensor([width, height, width, height], device=boxes.device, dtype=boxes.dtype)
    clamped = (boxes / scale).clamp(0, 1) * scale
    index = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)
    regions = torch.cat([index.unsqueeze(1), clamped], dim=1)
    cells: Tensor = roi_align(
        source.float(), regions, _BOX_GRID, spatial_scale=source.shape[-1] / width, aligned=True
    )
    return cells.to(source.dtype).flatten(2).transpose(1, 2)


def _merge(groups: list[tuple[list[int], PromptTokens]]) -> PromptTokens:
    """Bring encoded groups of prompts back into batch order, padded to the longest."""
    if len(groups) == 1:
        return groups[0][1]
    length = max(group.tokens.shape[1] for _, group in groups)
    order = [row for rows, _ in groups for row in rows]
    inverse = torch.tensor(sorted(range(len(order)), key=order.__getitem__))

    def stack(name: str, pad_value: float) -> Tensor:
        parts = [getattr(group, name) for _, group in groups]
        padded = [
            F.pad(part, (0, 0) * (part.dim() - 2) + (0, length - part.shape[1]), value=pad_value)
            for part in parts
        ]
        return torch.cat(padded)[inverse.to(padded[0].device)]

    return PromptTokens(
        tokens=stack("tokens", 0.0),
        positions=stack("positions", 0.0),
        padding=stack("padding", True),
        summary=torch.cat([group.summary for _, group in groups])[
            inverse.to(groups[0][1].summary.device)
        ],
    )
