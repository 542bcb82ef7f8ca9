"""PCKh and mask metrics against the official evaluation code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from parity.comparison import Comparison
from uniphd.keypoints import COCO17
from uniphd.metrics.mask_iou import THRESHOLDS, mask_overlap, summarize_overlaps
from uniphd.metrics.pckh import pckh_counts

Arrays = Mapping[str, np.ndarray[Any, Any]]


def check_pckh(npz: Arrays) -> list[Comparison]:
    """Correct and counted keypoints, per person and over all."""
    pairs = zip(npz["predictions"], npz["ground_truths"], strict=True)
    counts = np.array([pckh_counts(predicted, target, COCO17.head) for predicted, target in pairs])
    return [
        Comparison("per image", counts, npz["out_per_image"], 0.0),
        Comparison("correct", counts[:, 0].sum(), npz["out_correct"], 0.0),
        Comparison("total", counts[:, 1].sum(), npz["out_total"], 0.0),
    ]


def check_mask_metrics(npz: Arrays) -> list[Comparison]:
    """Overlap of the best-scored mask of every image, and the metrics over them."""
    best = npz["scores"].argmax(axis=1)
    pairs = [(npz[f"pred_{i}"][j], npz[f"gt_{i}"]) for i, j in enumerate(best)]
    overlaps = [mask_overlap(_runs(predicted), _runs(target)) for predicted, target in pairs]
    metrics = summarize_overlaps(overlaps)
    precision = [metrics[f"P@{t}"] for t in THRESHOLDS]
    return [
        Comparison("thresholds", THRESHOLDS, npz["thresholds"], 1e-12),
        Comparison(
            "intersection", [o.intersection for o in overlaps], npz["out_intersection"], 0.0
        ),
        Comparison("union", [o.union for o in overlaps], npz["out_union"], 0.0),
        Comparison("IoU", [o.iou for o in overlaps], npz["out_iou"], 1e-7),
        Comparison("overall IoU", metrics["oIoU"], npz["out_overall_iou"], 1e-6),
        Comparison("mean IoU", metrics["mIoU"], npz["out_mean_iou"], 1e-6),
        Comparison("precision at k", precision, npz["out_precision_at_k"], 1e-12),
    ]


def _runs(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    """COCO run lengths of an (h, w) mask, foreground where it is not zero."""
    runs: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))
    return runs


CHECKS: dict[str, Callable[[Arrays], list[Comparison]]] = {
    "pckh": check_pckh,
    "mask_metrics": check_mask_metrics,
}
