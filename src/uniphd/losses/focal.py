"""Focal classification (Lin et al., arXiv 1708.02002): the loss and the matcher's cost."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from uniphd.losses.precision import at_least_float32

ALPHA = 0.25
GAMMA = 2.0


def class_loss(logits: Tensor, one_hot: Tensor) -> Tensor:
    """Focal loss summed over images, queries and classes.

    Args:
        logits: (..., B, Q, K).
        one_hot: (..., B, Q, K), 1 at the category of every matched query, 0 elsewhere.

    Returns:
        (...).
    """
    logits = at_least_float32(logits)
    loss: Tensor = sigmoid_focal_loss(logits, one_hot.to(logits), ALPHA, GAMMA)
    return loss.sum((-3, -2, -1))


def pairwise_class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """What it would cost to call each query by each target's category (as in Deformable DETR).

    Args:
        logits: (..., B, Q, K).
        labels: (B, N) category ids below K.

    Returns:
        (..., B, Q, N) the focal loss as a positive minus the focal loss as a negative.
    """
    positive, negative = focal_losses(at_least_float32(logits))
    index = labels.unsqueeze(1).expand(*logits.shape[:-1], -1)
    return torch.gather(positive - negative, -1, index)


def focal_losses(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The focal loss of every logit as a positive and as a negative; shapes as `logits`."""
    probability = logits.sigmoid()
    positive = ALPHA * (1 - probability) ** GAMMA * F.softplus(-logits)
    negative = (1 - ALPHA) * probability**GAMMA * F.softplus(logits)
    return positive, negative
