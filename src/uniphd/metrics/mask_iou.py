"""Mask overlap: overall IoU, mean IoU and the share of masks above an IoU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pycocotools import mask as coco_mask

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


def mask_overlap(predicted: Mapping[str, Any], target: Mapping[str, Any]) -> Overlap:
    """Compare two masks of the same size without decoding them.

    Args:
        predicted: compressed run lengths as pycocotools takes them, `{"size": [h, w], "counts"}`.
        target: likewise.
    """
    intersection = int(coco_mask.area(coco_mask.merge([predicted, target], intersect=True)))
    areas = int(coco_mask.area(predicted)) + int(coco_mask.area(target))
    return Overlap(intersection, areas - intersection)


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
