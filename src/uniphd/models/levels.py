"""Feature levels as maps and as one sequence of tokens, and what of them is padding.

Shapes: B images, C channels, h_i x w_i the levels, S their tokens, level after level, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from uniphd.structures import Size


def flatten_levels(levels: Sequence[Tensor]) -> Tensor:
    """Maps (B, C, h_i, w_i) as one sequence (B, S, C)."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)


def unflatten_levels(tokens: Tensor, shapes: Sequence[Size]) -> list[Tensor]:
    """The inverse of `flatten_levels`."""
    parts = tokens.split([height * width for height, width in shapes], dim=1)
    return [
        part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)
    ]


def resize_padding(padding_mask: Tensor, shape: Size) -> Tensor:
    """Padding mask (B, H, W) at a level's size (B, h, w), by the nearest pixel."""
    return F.interpolate(padding_mask.unsqueeze(1).float(), shape).squeeze(1).bool()


def valid_ratio(padding: Tensor) -> Tensor:
    """Share of a level's (width, height) that is image, (B, 2), from its padding (B, h, w)."""
    valid = ~padding
    width = valid[:, 0].float().mean(1)
    height = valid[:, :, 0].float().mean(1)
    return torch.stack([width, height], dim=-1)


def cell_centres(shape: Size, ratio: Tensor) -> Tensor:
    """Centres (x, y) of a level's cells as fractions of the image, (B, h * w, 2).

    Args:
        shape: (h, w) of the level.
        ratio: (B, 2) `valid_ratio`, the share of its (width, height) that is image.
    """
    size = torch.tensor([shape[1], shape[0]], dtype=ratio.dtype)
    extent = ratio.unsqueeze(1) * size.to(ratio.device, non_blocking=True)
    return pixel_centres(shape, ratio.device).flatten(0, 1) / extent


def pixel_centres(shape: Size, device: torch.device) -> Tensor:
    """Coordinates (h, w, 2) as (x + 0.5, y + 0.5) of the cells of a map."""
    y, x = (torch.arange(0.5, length, dtype=torch.float32, device=device) for length in shape)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1)
