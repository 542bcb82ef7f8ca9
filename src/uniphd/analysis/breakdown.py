"""Results split by a property of the people, such as their size or how many are in the image."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from uniphd.analysis.results import Result

Groups: TypeAlias = Mapping[str, Sequence[Result]]
"""Results by the label of their group, in the order of the axis."""

Feature: TypeAlias = Callable[[Result], float]

_MEASURES: Mapping[str, Feature] = {
    "person found (mask IoU ≥ 0.5)": lambda result: float(result.found),
    "mask IoU": lambda result: result.iou,
    "OKS": lambda result: result.oks,
}


def group_by_value(results: Sequence[Result], feature: Feature) -> Groups:
    """One group per value of a feature, such as a number of people; in ascending order."""
    groups: dict[float, list[Result]] = defaultdict(list)
    for result in results:
        groups[feature(result)].append(result)
    return {f"{value:g}": groups[value] for value in sorted(groups)}


def group_by_quantile(
    results: Sequence[Result], feature: Feature, count: int = 4, form: str = ".0f"
) -> Groups:
    """Groups of nearly equal size, from the lowest to the highest values of a feature.

    Args:
        results: at least one.
        feature: what to order by; equal values stay together, so that there may be fewer groups.
        count: how many groups.
        form: format of the limits in the labels.
    """
    values = np.array([feature(result) for result in results])
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)))
    places = np.searchsorted(edges[1:-1], values, side="right")
    groups: dict[str, list[Result]] = {}
    for place in range(max(1, len(edges) - 1)):
        label = f"{edges[place]:{form}} – {edges[min(place + 1, len(edges) - 1)]:{form}}"
        members = [r for r, own in zip(results, places, strict=True) if own == place]
        groups.setdefault(label, []).extend(members)  # limits may be equal once they are rounded
    return groups


def plot_breakdown(groups: Groups, label: str) -> Figure:
    """Share of people found, mask IoU and OKS by group, one line per kind of prompt.

    Bars are one standard error of the mean; below each group stands the number of its prompts.

    Args:
        groups: see `group_by_value` and `group_by_quantile`.
        label: of the horizontal axis.
    """
    figure = Figure(figsize=(4 * len(_MEASURES), 3.4), layout="constrained")
    panels = figure.subplots(1, len(_MEASURES), sharey=True)
    names = [f"{name}\nn = {len(results)}" for name, results in groups.items()]
    kinds = list(dict.fromkeys(r.kind for results in groups.values() for r in results))
    for axes, (title, measure) in zip(panels, _MEASURES.items(), strict=True):
        for number, kind in enumerate(kinds):
            places = np.arange(len(groups)) + 0.05 * (number - (len(kinds) - 1) / 2)
            _plot_line(axes, places, groups, kind, measure)
        axes.set_xticks(range(len(groups)), names, fontsize="small")
        axes.set_title(title)
        axes.set_xlabel(label)
        axes.set_xlim(-0.5, len(groups) - 0.5)
        axes.set_ylim(0, 1.03)
        axes.grid(axis="y", alpha=0.3)
    panels[0].legend(fontsize="small", loc="lower left")
    return figure


def _plot_line(
    axes: Axes,
    places: npt.NDArray[np.floating[Any]],
    groups: Groups,
    kind: str,
    measure: Feature,
) -> None:
    """The means of one kind of prompt; nothing where a group lacks it."""
    means, errors = [], []
    for results in groups.values():
        values = np.array([measure(result) for result in results if result.kind == kind])
        values = values[np.isfinite(values)]
        means.append(float(values.mean()) if len(values) else math.nan)
        errors.append(float(values.std() / math.sqrt(len(values))) if len(values) else math.nan)
    axes.errorbar(places, means, errors, label=kind, marker="o", markersize=4, linewidth=1.2)
