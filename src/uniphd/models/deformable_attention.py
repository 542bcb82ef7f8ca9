"""Deformable attention module (Deformable DETR, section 4): learned points around a reference.

Shapes: B images, N queries, S tokens over the L levels, C channels, H heads, P points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from uniphd.errors import ConfigError
from uniphd.models.layers import require_heads, require_positive, softmax_of_few
from uniphd.ops import ms_deform_attn
from uniphd.structures import Size

AttentionStart: TypeAlias = Literal["ring", "local"]
"""Where the sampled points lie before training, see `DeformableAttention`."""

_LOCAL_LEVEL_BIAS = 3.0  # nine tenths of three levels' weight on the finest
_LOCAL_GAIN = 4.0  # an average of samples is a fraction of the query it is added to


class DeformableAttention(nn.Module):
    """Attention over a few sampled points per level and head.

    Args:
        hidden_dim: C.
        num_heads: H; divides C.
        num_levels: L.
        num_points: P per level and head.
        start: where the sampled points lie before training. "ring": 1 to P cells away, on all
            levels alike, as published. "local": within one cell, almost only on the finest level,
            and the output counts four times as much; for queries whose reference is nearly right.

    Raises:
        ConfigError: `start` is neither; a size is below 1; H does not divide C.
    """

    def __init__(
        self,
        hidden_dim: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        start: AttentionStart = "ring",
    ) -> None:
        super().__init__()
        if start not in get_args(AttentionStart):
            raise ConfigError(
                f"deformable attention starts as {start!r}; choose from "
                f"{', '.join(get_args(AttentionStart))}."
            )
        require_heads(hidden_dim, num_heads)
        require_positive(num_levels=num_levels, num_points=num_points)
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(hidden_dim, samples * 2)
        self.attention_weights = nn.Linear(hidden_dim, samples)
        self.value_proj = nn.Linear(hidden_dim, hidden_dim)
        self.output_proj = nn.Linear(hidden_dim, hidden_dim)
        self.reset_parameters()
        if start == "local":
            self._look_closely()

    def reset_parameters(self) -> None:
        """Start from points on a ring around the reference, one direction per head."""
        angle = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        ring = torch.stack([angle.cos(), angle.sin()], -1)
        ring = ring / ring.abs().amax(-1, keepdim=True)
        radius = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        bias = ring[:, None, None, :] * radius[None, None, :, None]
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def _look_closely(self) -> None:
        """Turn the published start into the local one."""
        with torch.no_grad():
            self.sampling_offsets.bias.div_(self.num_points)
            self.attention_weights.bias.view(self.num_heads, self.num_levels, -1)[:, 0].add_(
                _LOCAL_LEVEL_BIAS
            )
            self.output_proj.weight.mul_(_LOCAL_GAIN)

    def forward(
        self,
        query: Tensor,
        reference: Tensor,
        memory: Tensor,
        shapes: Sequence[Size],
        padding: Tensor,
    ) -> Tensor:
        """Attend from every query to the memory around its reference point.

        Args:
            query: (B, N, C).
            reference: (B, N, L, 2) points (x, y) as fractions of the padded canvas, per level.
            memory: (B, S, C).
            shapes: (h, w) of the levels.
            padding: (B, S) bool, True on padding; such tokens have value zero.

        Returns:
            (B, N, C).
        """
        batch, _, channels = query.shape
        value = self.value_proj(memory).masked_fill(padding.unsqueeze(-1), 0.0)
        value = value.view(batch, -1, self.num_heads, channels // self.num_heads)
        locations, weights = self.sample(query, reference, shapes)
        out: Tensor = self.output_proj(ms_deform_attn(value, shapes, locations, weights))
        return out

    def sample(
        self, query: Tensor, reference: Tensor, shapes: Sequence[Size]
    ) -> tuple[Tensor, Tensor]:
        """Where every query looks and how much that counts; arguments are those of `forward`.

        Returns:
            Locations (B, N, H, L, P, 2) as fractions of the padded canvas, and weights
            (B, N, H, L, P) that sum to one over the levels and points of a head.
        """
        batch, num_queries, _ = query.shape
        samples = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).view(batch, num_queries, *samples, 2).float()
        weights = self.attention_weights(query).view(batch, num_queries, self.num_heads, -1)
        weights = softmax_of_few(weights.float()).view(batch, num_queries, *samples)
        extent = torch.tensor([(width, height) for height, width in shapes], dtype=offsets.dtype)
        extent = extent.to(offsets.device, non_blocking=True)
        locations = torch.addcdiv(reference.float()[:, :, None, :, None], offsets, extent[:, None])
        return locations, weights
