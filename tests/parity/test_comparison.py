from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from parity.comparison import Comparison

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("actual", "expected", "max_abs"),
    [
        ([1.0, 2.5], [1.0, 2.0], 0.5),
        ([NAN, INF], [NAN, INF], 0.0),
        ([NAN, 1.0], [1.0, 1.0], INF),
        ([1.0, 1.0], [NAN, 1.0], INF),
        ([INF], [-INF], INF),
        ([1.0], [1.0, 1.0], INF),
        (["ab", "c"], ["ab", "c"], 0.0),
        (["ab", "d"], ["ab", "c"], INF),
        ([True, False], [1, 0], 0.0),
        (torch.tensor([3], requires_grad=False), np.array([1]), 2.0),
    ],
)
def test_difference(actual: Any, expected: Any, max_abs: float) -> None:
    comparison = Comparison("item", actual, np.asarray(expected), atol=0.1)
    assert comparison.max_abs == max_abs
    assert comparison.passed == (max_abs <= 0.1)


def test_relative_tolerance_scales_with_the_expected_value() -> None:
    assert Comparison("item", [101.0, 1.0], [100.0, 1.0], atol=0, rtol=0.02).passed
    assert not Comparison("item", [101.0, 1.1], [100.0, 1.0], atol=0, rtol=0.02).passed
    assert Comparison("item", [101.0, 5.0], [100.0, 0.0], atol=0).max_rel == pytest.approx(0.01)


def test_a_missing_gradient_does_not_pass() -> None:
    assert not Comparison("item", None, np.zeros(3), atol=1).passed
