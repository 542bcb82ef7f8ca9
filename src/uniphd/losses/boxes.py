"""Box losses on (centre x, centre y, width, height); every function broadcasts over leading axes.

With predictions (B, Q, 1, 4) and targets (B, 1, N, 4) the same functions are the pairwise costs of
the matcher.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uniphd.losses.precision import at_least_float32

_EPS = 1e-6  # official release, added to areas: 0.4 pixels at 640 x 640


def box_l1_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Sum of the four absolute differences: (..., 4) and (..., 4) -> (...)."""
    return (at_least_float32(predicted) - at_least_float32(target)).abs().sum(-1)


def giou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - generalised IoU (Rezatofighi et al., arXiv 1902.09630): (..., 4) and (..., 4) -> (...).

    Boxes without area give a finite value, NaN coordinates give NaN; neither raises. torchvision's
    `generalized_box_iou_loss` has another epsilon and makes the host wait for the device.
    """
    (low_a, high_a), (low_b, high_b) = _corners(predicted), _corners(target)
    intersection = _area(torch.maximum(low_a, low_b), torch.minimum(high_a, high_b))
    union = _area(low_a, high_a) + _area(low_b, high_b) - intersection
    hull = _area(torch.minimum(low_a, low_b), torch.maximum(high_a, high_b))
    return 1 - intersection / (union + _EPS) + (hull - union) / (hull + _EPS)


def _corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Top left and bottom right of (..., 4) boxes; a third of the calls of `box_convert`."""
    centre, half = at_least_float32(boxes).split(2, dim=-1)
    half = half / 2
    return centre - half, centre + half


def _area(top_left: Tensor, bottom_right: Tensor) -> Tensor:
    return (bottom_right - top_left).clamp(min=0).prod(-1)
