"""Object keypoint similarity (OKS), COCO's measure of how well a pose fits a person."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from uniphd.keypoints import OKS_SIGMAS

_VARIANCES = (2 * np.array(OKS_SIGMAS)) ** 2


def keypoint_similarity(
    predicted: npt.NDArray[Any], target: npt.NDArray[Any], areas: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """OKS of every predicted pose with every annotated one, as `COCOeval.computeOks` has it.

    It is the mean over a person's labelled keypoints, hidden ones included, of
    exp(-d² / (2 area (2 sigma)²)), in pixels of the image.

    Args:
        predicted: (R, 17, 2) or more columns, pixels (x, y); NaN is never similar.
        target: (P, 17, 3) pixels (x, y) and v, above 0 where the keypoint is labelled.
        areas: (P,) of the people's masks in square pixels.

    Returns:
        (R, P) in [0, 1]; 0 for people without a labelled keypoint, whom COCO compares by their box.
    """
    labelled = np.asarray(target[..., 2]) > 0
    offset = predicted[:, None, :, :2] - np.asarray(target[..., :2], dtype=np.float64)
    # COCO's guard against an area of zero.
    spread = 2 * _VARIANCES * (np.asarray(areas, dtype=np.float64) + np.spacing(1))[:, None]
    similarity = np.nan_to_num(np.exp(-np.square(offset).sum(-1) / spread))
    mean: npt.NDArray[np.float64] = (similarity * labelled).sum(-1) / np.maximum(
        labelled.sum(-1), 1
    )
    return mean
