"""Figures of failures, against counts by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from uniphd.analysis.failures import (
    ANSWERS,
    count_confusion,
    draw_answers,
    draw_confusion,
    draw_keypoint_errors,
    kind_of_answer,
)


@pytest.fixture
def outcomes(make_outcome) -> list:
    """Found, drawn badly, somebody else, nobody; each of three people, the second is meant."""
    overlaps = ((0.0, 0.8, 0.1), (0.1, 0.3, 0.1), (0.0, 0.2, 0.6), (0.05, 0.02, 0.0))
    return [make_outcome(overlaps=o, meant=1) for o in overlaps]


def test_every_answer_is_of_one_kind(outcomes) -> None:
    assert tuple(map(kind_of_answer, outcomes)) == ANSWERS


def test_bars_are_shares_of_each_kind_of_prompt(outcomes) -> None:
    boxes = [replace(outcomes[0], kind="box")] * 3 + [replace(outcomes[3], kind="box")]
    axes = draw_answers([*outcomes, *boxes]).axes[0]
    widths = np.array([bar.get_width() for bar in axes.patches]).reshape(4, 2)
    np.testing.assert_allclose(widths, [[0.25, 0.75], [0.25, 0], [0.25, 0], [0.25, 0.25]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["text", "box"]


def test_confusion_goes_by_the_order_from_left_to_right(outcomes, make_outcome) -> None:
    expected = np.zeros((3, 4), dtype=int)
    expected[1] = [0, 2, 1, 1]
    np.testing.assert_array_equal(count_confusion(outcomes), expected)
    # Listed from right to left: the first of the list, who is meant, is the third from the left.
    mirrored = make_outcome(overlaps=(0.1, 0.2, 0.7), meant=0, lefts=(100, 60, 20))
    assert count_confusion([mirrored])[2].tolist() == [1, 0, 0, 0]


def test_the_table_of_confusion_shows_shares_of_a_row(outcomes) -> None:
    figure = draw_confusion([*outcomes, replace(outcomes[0], kind="point")])
    assert [axes.get_title() for axes in figure.axes] == ["text", "point"]
    shares = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(shares, [[0, 0, 0, 0], [0, 0.5, 0.25, 0.25], [0, 0, 0, 0]])


def test_medians_of_keypoint_errors(make_outcome) -> None:
    outcomes = [make_outcome(offset=offset) for offset in (1.0, 2.0, 9.0)]
    keypoints = outcomes[0].record.keypoints.copy()
    keypoints[3, 2] = 0
    unlabelled = replace(outcomes[0].record, keypoints=keypoints)
    axes = draw_keypoint_errors([replace(outcomes[0], record=unlabelled), *outcomes[1:]]).axes[0]
    (medians,) = (line for line in axes.lines if line.get_label() == "median")
    expected = np.full(17, 2 / math.sqrt(800))
    expected[3] = 5.5 / math.sqrt(800)
    np.testing.assert_allclose(medians.get_xdata(), expected, rtol=1e-6)


def test_a_keypoint_that_nobody_has_is_left_empty(make_outcome) -> None:
    outcome = make_outcome()
    keypoints = outcome.record.keypoints.copy()
    keypoints[0, 2] = 0
    axes = draw_keypoint_errors(
        [replace(outcome, record=replace(outcome.record, keypoints=keypoints))]
    ).axes[0]
    (medians,) = (line for line in axes.lines if line.get_label() == "median")
    assert np.flatnonzero(np.isnan(medians.get_xdata())).tolist() == [0]
