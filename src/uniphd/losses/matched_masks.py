"""Masks of matched queries: coarse ones of all queries take part in matching, few are refined.

Shapes: S layers whose masks are supervised, B images, Q queries, N people at most in one image, M
matched pairs of a layer, H x W padded canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from uniphd.losses.masks import dice_loss, half_resolution, mask_focal_loss
from uniphd.losses.matcher import HungarianMatcher, Match, take
from uniphd.losses.predictions import StackedPredictions
from uniphd.losses.targets import StackedTargets
from uniphd.models.outputs import LayerPrediction, MaskFeatures

if TYPE_CHECKING:
    from uniphd.models.mask_head import MaskHead


@dataclass(frozen=True)
class MatchedMasks:
    """Mask logits of the first S outputs' matched queries and what they shall be.

    Attributes:
        logits: (S, M, H, W).
        low_logits: (S, M, H / 2, W / 2).
        target: (S, M, H, W) bool, zero on padding.
    """

    logits: Tensor
    low_logits: Tensor
    target: Tensor


def match_with_masks(
    matcher: HungarianMatcher,
    outputs: StackedPredictions,
    layers: Sequence[LayerPrediction],
    features: MaskFeatures,
    mask_head: MaskHead,
    masks: Tensor,
    stacked: StackedTargets,
) -> tuple[Match, MatchedMasks]:
    """Match on coarse masks of all queries, then refine the matched ones only.

    The layers, which are the first of the outputs, stand side by side as S * Q queries of an image.
    `masks` (B, N, H, W) bool are the annotated ones.
    """
    made = [layer.coarse_masks for layer in layers if layer.coarse_masks is not None]
    coarse = (
        _side_by_side(made)
        if made
        else mask_head.coarse(
            features,
            _side_by_side([layer.embedding for layer in layers]),
            _side_by_side([layer.centre for layer in layers]),
        )
    )
    low_logits = mask_head.low_resolution(coarse)
    match = matcher(outputs, stacked, low_logits.detach(), half_resolution(masks))
    # One slot per image, layer and person; those without a pair hold a query that is not read.
    _, images, queries, people = match.shape
    layer = torch.arange(len(layers), device=coarse.device).unsqueeze(1)
    place = match.image * len(layers) + layer
    rows = place * queries + match.query[: len(layers)]
    slots = place * people + match.person[: len(layers)]
    chosen = rows.new_zeros(images * len(layers) * people)
    chosen = chosen.index_copy_(0, slots.flatten(), rows.flatten()).view(images, -1)
    refined = mask_head.refine(features, take(coarse.flatten(0, 1), chosen))
    return match, MatchedMasks(
        logits=take(refined.flatten(0, 1), slots),
        low_logits=take(low_logits.flatten(0, 1), rows),
        target=match.people(masks, len(layers)),
    )


def mask_losses(masks: MatchedMasks) -> dict[str, Tensor]:
    """Unweighted sums over the pairs by name, (S,)."""
    low_target = half_resolution(masks.target)
    losses = {
        "mask": mask_focal_loss(masks.logits, masks.target),
        "dice": dice_loss(masks.logits, masks.target),
        "mask_low": mask_focal_loss(masks.low_logits, low_target),
        "dice_low": dice_loss(masks.low_logits, low_target),
    }
    return {name: loss.sum(1) for name, loss in losses.items()}


def _side_by_side(values: list[Tensor]) -> Tensor:
    """Values (B, Q, ...) of S layers as (B, S * Q, ...)."""
    return values[0] if len(values) == 1 else torch.cat(values, dim=1)
