"""Sine position encodings: of maps with padding, of token sequences and of single points.

Shapes: B images, h x w a map, T tokens, F features per axis.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_position_2d(padding_mask: Tensor, num_feats: int, temperature: float = 20.0) -> Tensor:
    """Encode the pixels of a padded map, normalised so that the last valid row and column are 2 pi.

    Args:
        padding_mask: (B, h, w) bool, True on padding.
        num_feats: features per axis.
        temperature: base of the wavelengths; 20 in the official release.

    Returns:
        (B, 2 * num_feats, h, w), y features first.
    """
    valid = (~padding_mask).float()
    yx = torch.stack([_normalised_cumsum(valid, dim) for dim in (1, 2)], dim=-1)
    return _sine(yx, num_feats, temperature).flatten(-2).permute(0, 3, 1, 2)


def sine_position_1d(padding_mask: Tensor, num_feats: int, temperature: float = 10_000.0) -> Tensor:
    """Encode the tokens of padded texts.

    Args:
        padding_mask: (B, T) bool, True on padding.
        num_feats: features per token.
        temperature: base of the wavelengths.

    Returns:
        (B, T, num_feats).
    """
    position = _normalised_cumsum((~padding_mask).float(), 1)
    return _sine(position, num_feats, temperature)


def sine_position_of_points(
    points: Tensor, num_feats: int, temperature: float = 10_000.0
) -> Tensor:
    """Encode points given as fractions of the canvas.

    Args:
        points: (..., 2) as (x, y) in [0, 1].
        num_feats: features per axis.
        temperature: base of the wavelengths.

    Returns:
        (..., 2 * num_feats), y features first.
    """
    yx = (points * (2 * math.pi)).flip(-1)
    return _sine(yx, num_feats, temperature).flatten(-2)


def _normalised_cumsum(valid: Tensor, dim: int) -> Tensor:
    """Count valid entries along `dim` and scale the last count to 2 pi."""
    count = valid.cumsum(dim)
    last = count.select(dim, -1).unsqueeze(dim)
    return count / (last + 1e-6) * (2 * math.pi)


def _sine(position: Tensor, num_feats: int, temperature: float) -> Tensor:
    """Encode positions (...) as (..., num_feats) with sine on even and cosine on odd features."""
    pair = torch.arange(0, num_feats - 1, 2, dtype=torch.float32, device=position.device)
    wavelength = temperature ** (pair / num_feats)
    angle = position.unsqueeze(-1) / wavelength
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
