"""Keypoint losses: L1, object keypoint similarity (OKS) and visibility.

Every function broadcasts over leading axes, so the same ones are the matcher's pairwise costs.
K = 17 keypoints; coordinates are fractions of the image, `visibility` is 1 where a keypoint is
labelled and 0 elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from uniphd.losses.precision import at_least_float32

_EPS = 1e-6  # official release: guards the mean over labelled keypoints and bounds OKS from below
_MIN_AREA = 1e-8  # far below one pixel: an empty mask must not divide by zero


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


def keypoint_variance(area: Tensor, sigmas: Tensor) -> Tensor:
    """Variance of a keypoint's position in OKS: area (2 sigma)².

    Args:
        area: (...) mask area divided by w * h.
        sigmas: (K,) OKS constants of the keypoints.

    Returns:
        (..., K).
    """
    area = at_least_float32(area).clamp(min=_MIN_AREA)
    return area.unsqueeze(-1) * (2 * sigmas.to(area)).square()


def object_keypoint_similarity(
    predicted: Tensor, target: Tensor, visibility: Tensor, variance: Tensor
) -> Tensor:
    """COCO's OKS: mean over the labelled keypoints of exp(-d² / (2 variance)).

    Distances are in fractions of the width and of the height, and the area is a fraction of the
    image, as in the official release; for images that are not square this is not COCO's number.

    Args:
        predicted: (..., K, 2).
        target: (..., K, 2).
        visibility: (..., K).
        variance: (..., K) see `keypoint_variance`.

    Returns:
        (...) in [0, 1]; 0 where no keypoint is labelled.
    """
    offset = at_least_float32(predicted) - at_least_float32(target)
    similarity = torch.exp(-offset.square().sum(-1) / (2 * variance))
    return (similarity * visibility).sum(-1) / (visibility.sum(-1) + _EPS)


def oks_loss(predicted: Tensor, target: Tensor, visibility: Tensor, variance: Tensor) -> Tensor:
    """1 - OKS, with OKS bounded below by 1e-6; arguments and shapes as for the similarity."""
    similarity = object_keypoint_similarity(predicted, target, visibility, variance)
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
