"""PCKh: the share of labelled keypoints that are found within half the head's size.

The head's size is the distance between two keypoints, RefHuman's and COCO's ears; people of whom
not both are labelled are not counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def pckh_counts(
    predicted: npt.NDArray[Any],
    target: npt.NDArray[Any],
    head: tuple[int, int] | None,
    threshold: float = 0.5,
) -> tuple[int, int]:
    """Correct and counted keypoints of one person.

    Args:
        predicted: (K, 2) or more columns, pixels (x, y); NaN is never correct.
        target: (K, 3) pixels (x, y) and v, above 0 where the keypoint is labelled.
        head: the two keypoints, of the `KeypointSchema`; None counts nothing.
        threshold: in head sizes; a distance of exactly that much is correct.

    Returns:
        (correct, counted); (0, 0) where the head's size is not known.
    """
    points = np.asarray(target[:, :2], dtype=np.float64)
    labelled = np.asarray(target[:, 2]) > 0
    if head is None or not labelled[list(head)].all():
        return 0, 0
    size = np.linalg.norm(points[head[0]] - points[head[1]])
    distance = np.linalg.norm(np.asarray(predicted, dtype=np.float64)[:, :2] - points, axis=1)
    correct = labelled & (distance <= threshold * size)
    return int(correct.sum()), int(labelled.sum())
