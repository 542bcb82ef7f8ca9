from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from uniphd.metrics.mask_iou import Overlap, mask_overlap, summarize_overlaps


def _runs(mask: np.ndarray) -> Any:
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


@pytest.mark.parametrize("seed", range(5))
def test_overlap_counts_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 40, 61)) > rng.random((2, 1, 1))
    expected = Overlap(int((a & b).sum()), int((a | b).sum()))
    assert mask_overlap(_runs(a), _runs(b)) == expected


def test_empty_masks() -> None:
    empty, full = _runs(np.zeros((3, 3))), _runs(np.ones((3, 3)))
    assert mask_overlap(empty, empty).iou == 1
    assert mask_overlap(empty, full).iou == mask_overlap(full, empty).iou == 0


def test_summary_by_hand() -> None:
    overlaps = [Overlap(1, 2), Overlap(30, 40), Overlap(0, 8)]
    metrics = summarize_overlaps(overlaps)
    assert metrics["oIoU"] == pytest.approx(31 / 50)
    assert metrics["mIoU"] == pytest.approx((0.5 + 0.75 + 0) / 3)
    # Strictly above: the IoU of exactly 0.5 does not count.
    assert [metrics[f"P@{t}"] for t in (0.5, 0.6, 0.7, 0.8)] == pytest.approx([1 / 3] * 3 + [0])


def test_nothing_to_summarise_is_undefined() -> None:
    assert all(math.isnan(value) for value in summarize_overlaps([]).values())
