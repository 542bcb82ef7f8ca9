"""Mask losses on logits and their pairwise forms for the matcher.

All of them run over the whole padded canvas, where padding is background, as the official ones do.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from uniphd.losses.focal import ALPHA, GAMMA, focal_losses
from uniphd.losses.precision import at_least_float32

_SMOOTH = 1.0  # official release: keeps the dice ratio defined for two empty masks


def half_resolution(masks: Tensor) -> Tensor:
    """Every second pixel, beginning with the second: (..., H, W) -> (..., H / 2, W / 2)."""
    return masks[..., 1::2, 1::2]


def mask_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss averaged over the pixels: (..., H, W) and (..., H, W) -> (...)."""
    logits = at_least_float32(logits)
    loss: Tensor = sigmoid_focal_loss(logits, target.to(logits), ALPHA, GAMMA)
    return loss.mean((-2, -1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - smoothed dice coefficient: (..., H, W) and (..., H, W) -> (...)."""
    probability = at_least_float32(logits).sigmoid()
    target = target.to(probability)
    overlap = (probability * target).sum((-2, -1))
    return smooth_dice_loss(overlap, probability.sum((-2, -1)) + target.sum((-2, -1)))


def pairwise_mask_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """`mask_focal_loss` of every query against every target.

    Args:
        logits: (B, Q, h, w).
        target: (B, N, h, w).

    Returns:
        (B, Q, N).
    """
    logits = at_least_float32(logits).flatten(2)
    target = target.flatten(2).to(logits).transpose(1, 2)
    positive, negative = focal_losses(logits)
    total = (positive - negative) @ target + negative.sum(-1, keepdim=True)
    return total / logits.shape[-1]


def pairwise_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """`dice_loss` of every query against every target: shapes as `pairwise_mask_focal_loss`."""
    probability = at_least_float32(logits).flatten(2).sigmoid()
    target = target.flatten(2).to(probability).transpose(1, 2)
    overlap = probability @ target
    total = probability.sum(-1, keepdim=True) + target.sum(-2, keepdim=True)
    return smooth_dice_loss(overlap, total)


def smooth_dice_loss(overlap: Tensor, total: Tensor) -> Tensor:
    """1 - smoothed dice coefficient, from the overlap of two masks and the sum of their areas."""
    return 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)
