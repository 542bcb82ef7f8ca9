"""Keypoint losses: L1, object keypoint similarity (OKS) and visibility.

Every function broadcasts over leading axes, so the same ones are the matcher's pairwise costs.
K keypoints; coordinates are fractions of the image, `visibility` is 1 where a keypoint is
labelled and 0 elsewhere.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from uniphd.losses.precision import at_least_float32
from uniphd.metrics.oks import object_keypoint_similarity

_EPS = 1e-6  # official release: guards the mean over labelled keypoints and bounds OKS from below


def keypoint_l1_loss(predicted: Tensor, target: Tensor, visibility: Tensor) -> Tensor:
    """Sum of absolute differences over the labelled keypoints' coordinates.

    Args:
        predicted: (..., K, 2).
        target: (..., K, 2).
        visibility: (..., K).

    Returns:
        (...).
    """
    distance = (at_least_float32(predicted) - at_least_float32(target)).abs().sum(-1)
    return (distance * visibility).sum(-1)


def oks_loss(predicted: Tensor, target: Tensor, visibility: Tensor, variance: Tensor) -> Tensor:
    """1 - OKS, with OKS bounded below by 1e-6.

    Distances are in fractions of the width and of the height, and the area is a fraction of the
    image, as in the official release; for images that are not square this is not COCO's number.

    Args:
        predicted: (..., K, 2).
        target: (..., K, 2).
        visibility: (..., K).
        variance: (..., K) see `uniphd.metrics.oks.keypoint_variance`.

    Returns:
        (...).
    """
    predicted, target = at_least_float32(predicted), at_least_float32(target)
    similarity = object_keypoint_similarity(predicted, target, visibility, variance, epsilon=_EPS)
    return 1 - similarity.clamp(min=_EPS)


def visibility_loss(logits: Tensor, visibility: Tensor) -> Tensor:
    """Binary cross-entropy, mean over instances and keypoints; 0 for no instance.

    The official release divides this mean by the number of instances once more, which makes the
    term fade as the batch grows.

    Args:
        logits: (..., M, K) of M instances.
        visibility: (..., M, K).

    Returns:
        (...).
    """
    logits = at_least_float32(logits)
    loss = F.binary_cross_entropy_with_logits(logits, visibility.to(logits), reduction="none")
    return loss.sum((-2, -1)) / max(logits.shape[-2:].numel(), 1)
