"""Box losses on (centre x, centre y, width, height); every function broadcasts over leading axes.

With predictions (B, Q, 1, 4) and targets (B, 1, N, 4) the same functions are the pairwise costs of
the matcher.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert

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
    a = box_convert(at_least_float32(predicted), "cxcywh", "xyxy")
    b = box_convert(at_least_float32(target), "cxcywh", "xyxy")
    intersection = _area(
        torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    )
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - intersection
    hull = _area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    return 1 - intersection / (union + _EPS) + (hull - union) / (hull + _EPS)


def _area(top_left: Tensor, bottom_right: Tensor) -> Tensor:
    return (bottom_right - top_left).clamp(min=0).prod(-1)
