"""PCKh: the share of labelled keypoints that are found within half the head's size.

RefHuman takes the distance between the ears as the head's size, so people without both ears
labelled are not counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from uniphd.keypoints import LEFT_EAR, RIGHT_EAR


def pckh_counts(
    predicted: npt.NDArray[Any], target: npt.NDArray[Any], threshold: float = 0.5
) -> tuple[int, int]:
    """Correct and counted keypoints of one person.

    Args:
        predicted: (17, 2) or more columns, pixels (x, y); NaN is never correct.
        target: (17, 3) pixels (x, y) and v, above 0 where the keypoint is labelled.
        threshold: in head sizes; a distance of exactly that much is correct.

    Returns:
        (correct, counted); (0, 0) where an ear is not labelled.
    """
    points = np.asarray(target[:, :2], dtype=np.float64)
    labelled = np.asarray(target[:, 2]) > 0
    if not (labelled[LEFT_EAR] and labelled[RIGHT_EAR]):
        return 0, 0
    head = np.linalg.norm(points[LEFT_EAR] - points[RIGHT_EAR])
    distance = np.linalg.norm(np.asarray(predicted, dtype=np.float64)[:, :2] - points, axis=1)
    correct = labelled & (distance <= threshold * head)
    return int(correct.sum()), int(labelled.sum())
