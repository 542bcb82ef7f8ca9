"""Prompts that are read at points of the image: clicks, scribbles, masks.

Shapes: N prompts, P points, D features, h x w the stride-16 map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uniphd.ops.sampling import sample_bilinear
from uniphd.prompts.base import SpatialBlock, SpatialTokens
from uniphd.structures import Size


@dataclass(frozen=True)
class PointsBlock(SpatialBlock):
    """Points of every prompt, each a token.

    Attributes:
        points: (N, P, 2) float, pixels.
        padding: (N, P) bool, True where a prompt has fewer than P points.
    """

    points: Tensor
    padding: Tensor

    def read(self, features: Tensor, positions: Tensor, canvas: Size) -> SpatialTokens:
        """See the base."""
        return SpatialTokens(
            sample_points(features, self.points, canvas),
            sample_points(positions, self.points, canvas),
            self.padding,
        )


def pad_points(points: Sequence[Tensor]) -> PointsBlock:
    """Pad N times points (P_i, 2) to the longest."""
    length = max(map(len, points))
    padded = torch.zeros((len(points), length, 2))
    padding = torch.ones((len(points), length), dtype=torch.bool)
    for row, values in enumerate(points):
        padded[row, : len(values)] = values
        padding[row, : len(values)] = False
    return PointsBlock(padded, padding)


def sample_points(source: Tensor, points: Tensor, canvas: Size) -> Tensor:
    """Read a map bilinearly at points in canvas pixels.

    Args:
        source: (N, D, h, w).
        points: (N, P, 2) pixels (x, y); clamped to the canvas.
        canvas: (height, width) of the canvas in pixels.

    Returns:
        (N, P, D).
    """
    extent = torch.tensor([canvas[1], canvas[0]], dtype=points.dtype)
    grid = (points / extent.to(points.device, non_blocking=True)).clamp(0, 1) * 2 - 1
    sampled = sample_bilinear(source, grid.unsqueeze(2).to(source.dtype), align_corners=True)
    return sampled.squeeze(3).transpose(1, 2)


def mirror_points(points: Tensor, width: int) -> Tensor:
    """Points (..., 2) of a mirrored image: x becomes width - 1 - x."""
    x, y = points.unbind(-1)
    return torch.stack([width - 1 - x, y], dim=-1)
