from __future__ import annotations

import math

import numpy as np
import pytest

from uniphd.metrics.mask_iou import Overlap, mask_overlap, summarize_overlaps


def test_overlap_counts_pixels() -> None:
    a, b = np.zeros((4, 6)), np.zeros((4, 6), dtype=bool)
    a[:2, :3] = 255
    b[1:3, 1:4] = True
    assert mask_overlap(a, b) == Overlap(intersection=2, union=10)


def test_empty_masks() -> None:
    empty, full = np.zeros((3, 3)), np.ones((3, 3))
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
