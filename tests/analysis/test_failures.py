"""Figures of failures, against counts by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from uniphd.analysis.failures import (
    OUTCOMES,
    count_confusion,
    outcome,
    plot_confusion,
    plot_keypoint_errors,
    plot_outcomes,
)


@pytest.fixture
def results(make_result) -> list:
    """Found, drawn badly, somebody else, nobody; each of three people, the second is meant."""
    overlaps = ((0.0, 0.8, 0.1), (0.1, 0.3, 0.1), (0.0, 0.2, 0.6), (0.0, 0.0, 0.0))
    return [make_result(overlaps=o, referred=1) for o in overlaps]


def test_every_result_is_of_one_kind(results) -> None:
    assert tuple(map(outcome, results)) == OUTCOMES


def test_bars_are_shares_of_each_kind_of_prompt(results) -> None:
    boxes = [replace(results[0], kind="box")] * 3 + [replace(results[3], kind="box")]
    axes = plot_outcomes([*results, *boxes]).axes[0]
    widths = np.array([bar.get_width() for bar in axes.patches]).reshape(4, 2)
    np.testing.assert_allclose(widths, [[0.25, 0.75], [0.25, 0], [0.25, 0], [0.25, 0.25]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["text", "box"]


def test_confusion_goes_by_the_order_from_left_to_right(results, make_result) -> None:
    expected = np.zeros((3, 4), dtype=int)
    expected[1] = [0, 2, 1, 1]
    np.testing.assert_array_equal(count_confusion(results), expected)
    # Listed from right to left: the referred person, who is the first, is the third from the left.
    mirrored = make_result(overlaps=(0.1, 0.2, 0.7), referred=0, lefts=(100, 60, 20))
    assert count_confusion([mirrored])[2].tolist() == [1, 0, 0, 0]


def test_the_table_of_confusion_shows_shares_of_a_row(results) -> None:
    figure = plot_confusion([*results, replace(results[0], kind="point")])
    assert [axes.get_title() for axes in figure.axes] == ["text", "point"]
    shares = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(shares, [[0, 0, 0, 0], [0, 0.5, 0.25, 0.25], [0, 0, 0, 0]])


def test_medians_of_keypoint_errors(make_result) -> None:
    results = [make_result(offset=offset) for offset in (1.0, 2.0, 9.0)]
    keypoints = results[0].annotation.keypoints.copy()
    keypoints[3, 2] = 0
    unlabelled = replace(results[0].annotation, keypoints=keypoints)
    axes = plot_keypoint_errors([replace(results[0], annotation=unlabelled), *results[1:]]).axes[0]
    (medians,) = (line for line in axes.lines if line.get_label() == "median")
    expected = np.full(17, 2 / math.sqrt(800))
    expected[3] = 5.5 / math.sqrt(800)
    np.testing.assert_allclose(medians.get_xdata(), expected, rtol=1e-6)


def test_a_keypoint_that_nobody_has_is_left_empty(make_result) -> None:
    result = make_result()
    keypoints = result.annotation.keypoints.copy()
    keypoints[0, 2] = 0
    axes = plot_keypoint_errors(
        [replace(result, annotation=replace(result.annotation, keypoints=keypoints))]
    ).axes[0]
    (medians,) = (line for line in axes.lines if line.get_label() == "median")
    assert np.flatnonzero(np.isnan(medians.get_xdata())).tolist() == [0]
