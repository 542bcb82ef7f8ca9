"""Object keypoint similarity (OKS), COCO's measure of how well a pose fits a person.

The loss, the evaluation and the analysis of results all call the one formula below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_MIN_AREA = 1e-8  # far below one pixel: an empty mask must not divide by zero


def keypoint_variance(area: Tensor, sigmas: Tensor) -> Tensor:
    """Variance of a keypoint's position in OKS: area (2 sigma)².

    Args:
        area: (...) of the people's masks, in square units of the coordinates.
        sigmas: (K,) spread of every keypoint among annotators.

    Returns:
        (..., K).
    """
    return area.clamp(min=_MIN_AREA).unsqueeze(-1) * (2 * sigmas.to(area)).square()


def object_keypoint_similarity(
    predicted: Tensor,
    target: Tensor,
    visibility: Tensor,
    variance: Tensor,
    epsilon: float = 0.0,
) -> Tensor:
    """COCO's OKS: the mean over the labelled keypoints of exp(-d² / (2 variance)).

    Leading dimensions broadcast. Coordinates are in any unit; pixels give COCO's number.

    Args:
        predicted: (..., K, 2).
        target: (..., K, 2).
        visibility: (..., K), 1 where a keypoint is labelled, hidden or not, and 0 elsewhere.
        variance: (..., K) see `keypoint_variance`.
        epsilon: added to the number of labelled keypoints.

    Returns:
        (...) in [0, 1]; where no keypoint is labelled 0, or NaN without `epsilon`.
    """
    similarity = torch.exp(-(predicted - target).square().sum(-1) / (2 * variance))
    return (similarity * visibility).sum(-1) / (visibility.sum(-1) + epsilon)


def pairwise_oks(
    predicted: npt.NDArray[Any],
    target: npt.NDArray[Any],
    areas: npt.NDArray[Any],
    sigmas: Sequence[float],
) -> npt.NDArray[np.float64]:
    """OKS of every predicted pose with every annotated one, as `COCOeval.computeOks` has it.

    Args:
        predicted: (R, K, 2) or more columns, pixels (x, y) of the image; NaN is never similar.
        target: (P, K, 3) pixels (x, y) and v, above 0 where the keypoint is labelled.
        areas: (P,) of the people's masks in square pixels.
        sigmas: K, of the `KeypointSchema`.

    Returns:
        (R, P) in [0, 1]; 0 for people without a labelled keypoint, whom COCO compares by their box.
    """
    poses, people = (torch.from_numpy(values).double() for values in (predicted, target))
    variance = keypoint_variance(
        torch.from_numpy(areas).double(), torch.tensor(sigmas, dtype=torch.float64)
    )
    labelled = (people[..., 2] > 0).double()
    similarity = object_keypoint_similarity(
        poses[:, None, :, :2], people[..., :2], labelled, variance
    )
    pairs: npt.NDArray[np.float64] = similarity.nan_to_num().numpy()
    return pairs
