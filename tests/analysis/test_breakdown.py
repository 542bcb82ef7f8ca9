"""Results by group: who is in which group, and what the lines show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from uniphd.analysis.breakdown import group_by_quantile, group_by_value, plot_breakdown


@pytest.fixture
def results(make_result) -> list:
    sizes = ((0.9, 0.0), (0.4, 0.0), (0.7, 0.0, 0.0), (0.1, 0.8, 0.0))
    return [make_result(o, kind=kind, oks=o[0] / 2) for kind in ("text", "box") for o in sizes]


def test_values_are_in_ascending_order(results) -> None:
    groups = group_by_value(results[::-1], lambda o: len(o.people))
    assert {name: len(group) for name, group in groups.items()} == {"2": 4, "3": 4}
    assert list(groups) == ["2", "3"]


def test_quantiles_share_everybody_evenly(results) -> None:
    groups = group_by_quantile(results, lambda o: o.iou, 4, ".1f")
    assert [len(group) for group in groups.values()] == [2, 2, 2, 2]
    assert sorted(map(id, (o for g in groups.values() for o in g))) == sorted(map(id, results))
    edges = [max(o.iou for o in group) for group in groups.values()]
    assert edges == [0.1, 0.4, 0.7, 0.9]


def test_equal_values_stay_together(results) -> None:
    assert list(group_by_quantile(results, lambda o: 3.0)) == ["3 – 3"]
    two = group_by_quantile(results, lambda o: 1.0 + (o.iou > 0.8))
    assert [len(group) for group in two.values()] == [6, 2]


def test_nobody_is_lost_where_limits_look_equal(results) -> None:
    groups = group_by_quantile(results, lambda o: o.iou / 10)
    assert list(groups) == ["0 – 0"]
    assert len(groups["0 – 0"]) == len(results)


def test_lines_are_means_with_standard_errors(results) -> None:
    figure = plot_breakdown(group_by_value(results, lambda o: len(o.people)), "people")
    found, iou, oks = figure.axes
    for axes, means in ((found, (0.5, 0.5)), (iou, (0.65, 0.4)), (oks, (0.325, 0.2))):
        lines = [container.lines[0] for container in axes.containers]
        assert len(lines) == 2  # text and box
        for line in lines:
            assert line.get_ydata() == pytest.approx(means)
    (bar,) = iou.containers[0].lines[2]
    low, high = bar.get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(np.std([0.9, 0.4]) / math.sqrt(2))
    assert [t.get_text() for t in iou.get_xticklabels()] == ["2\nn = 4", "3\nn = 4"]


def test_unknown_similarities_are_left_out(make_result) -> None:
    results = [make_result(oks=0.4), make_result(oks=math.nan)]
    figure = plot_breakdown({"all": results, "none": results[1:]}, "group")
    line = figure.axes[2].containers[0].lines[0]
    np.testing.assert_allclose(np.asarray(line.get_ydata(), dtype=float), [0.4, math.nan])
