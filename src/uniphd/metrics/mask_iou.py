"""Mask overlap: overall IoU, mean IoU and the share of masks above an IoU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Overlap:
    """Pixels in which a predicted and an annotated mask agree.

    Attributes:
        intersection: pixels in both.
        union: pixels in at least one.
    """

    intersection: int
    union: int

    @property
    def iou(self) -> float:
        """Intersection over union; two empty masks agree completely."""
        return self.intersection / self.union if self.union else 1.0


def mask_overlap(predicted: npt.NDArray[Any], target: npt.NDArray[Any]) -> Overlap:
    """Compare two masks of the same size (H, W), foreground where they are not zero."""
    predicted, target = np.asarray(predicted, dtype=bool), np.asarray(target, dtype=bool)
    return Overlap(
        intersection=int(np.count_nonzero(predicted & target)),
        union=int(np.count_nonzero(predicted | target)),
    )


def summarize_overlaps(overlaps: Sequence[Overlap]) -> dict[str, float]:
    """Metrics over people, one overlap each; NaN where nothing can be divided by.

    Returns:
        oIoU: sum of intersections over sum of unions.
        mIoU: mean of the IoUs.
        P@t: share of IoUs strictly above t, for t in `THRESHOLDS`.
    """
    intersection = sum(overlap.intersection for overlap in overlaps)
    union = sum(overlap.union for overlap in overlaps)
    ious = [overlap.iou for overlap in overlaps]
    count = len(ious) or math.nan
    return {
        "oIoU": intersection / (union or math.nan),
        "mIoU": math.fsum(ious) / count,
        **{f"P@{t}": sum(iou > t for iou in ious) / count for t in THRESHOLDS},
    }
