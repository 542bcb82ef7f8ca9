"""What goes wrong: which keypoints are off, and whom the detections show instead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from uniphd.analysis.results import Result

OUTCOMES = (
    "referred person, IoU ≥ 0.5",
    "referred person, IoU < 0.5",
    "somebody else",
    "nobody",
)
"""What a detection can show, from the best to the worst."""

_OUTCOME_COLORS = ("tab:green", "tab:olive", "tab:red", "0.75")


def outcome(result: Result) -> str:
    """Which of `OUTCOMES` a result is, by the rule of the metrics (`shown_person`)."""
    if result.shown is None:
        return OUTCOMES[3]
    if not result.picked:
        return OUTCOMES[2]
    return OUTCOMES[0] if result.found else OUTCOMES[1]


def plot_outcomes(results: Sequence[Result]) -> Figure:
    """Bars per kind of prompt: how often the detection shows whom."""
    kinds = list(dict.fromkeys(result.kind for result in results))
    names = np.array([[r.kind, outcome(r)] for r in results])
    figure = Figure(figsize=(7, 0.8 + 0.5 * len(kinds)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(kinds))
    for name, color in zip(OUTCOMES, _OUTCOME_COLORS, strict=True):
        shares = np.array([(names[names[:, 0] == kind, 1] == name).mean() for kind in kinds])
        bars = axes.barh(kinds, shares, left=left, color=color, label=name)
        texts = [f"{share:.0%}" if share >= 0.04 else "" for share in shares]
        axes.bar_label(bars, texts, label_type="center", fontsize="small")
        left += shares
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside upper center", ncols=len(OUTCOMES), fontsize="small")
    return figure


def count_confusion(results: Sequence[Result]) -> npt.NDArray[np.int64]:
    """Who was referred to and who is shown, by the order of the people from left to right.

    Args:
        results: at least one.

    Returns:
        (P, P + 1) counts for at most P people in an image; row: the place of the referred person,
        column: the place of the person shown, the last column for nobody.
    """
    most = max(len(result.people) for result in results)
    counts = np.zeros((most, most + 1), dtype=np.int64)
    for result in results:
        centres = [person.bbox[0] + person.bbox[2] / 2 for person in result.people]
        order = np.argsort(np.argsort(centres, kind="stable"), kind="stable")
        shown = most if result.shown is None else order[result.shown]
        counts[order[result.referred], shown] += 1
    return counts


def plot_confusion(results: Sequence[Result]) -> Figure:
    """A table per kind of prompt: who was referred to (row) and who is shown (column)."""
    kinds = list(dict.fromkeys(result.kind for result in results))
    figure = Figure(figsize=(3.4 * len(kinds), 3.4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        counts = count_confusion([result for result in results if result.kind == kind])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            ink, text = "white" if share > 0.6 else "black", f"{share:.0%}" if share else ""
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize="small")
        places = [str(place) for place in range(1, len(counts) + 1)]
        axes.set_xticks(range(len(places) + 1), [*places, "nobody"])
        axes.set_yticks(range(len(places)), places)
        axes.set_title(kind)
        axes.set_xlabel("shown, from the left")
    figure.axes[0].set_ylabel("referred, from the left")
    return figure


def plot_keypoint_errors(results: Sequence[Result]) -> Figure:
    """Per keypoint: the error over the person's size, its median and its spread.

    The black mark is the distance at which the keypoint's similarity has fallen to exp(-1/2), or
    0.61: twice COCO's sigma, the spread among people who annotate.

    Args:
        results: at least one; a keypoint that none of them has labelled stays empty.
    """
    errors = np.stack([result.errors for result in results])
    schema = results[0].annotation.schema
    names = [name.replace("_", " ") for name in schema.names]
    figure = Figure(figsize=(7, 4.8), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(names))
    known = [column[np.isfinite(column)] for column in errors.T]
    shares = (0.1, 0.25, 0.5, 0.75, 0.9)
    low, first, median, third, high = np.array(
        [np.quantile(values, shares) if len(values) else [np.nan] * 5 for values in known]
    ).T
    axes.hlines(rows, low, high, color="0.6", linewidth=1.5, label="10 % to 90 % of the people")
    axes.hlines(rows, first, third, color="tab:blue", linewidth=7, alpha=0.6, label="middle half")
    axes.plot(median, rows, "o", color="tab:orange", label="median")
    tolerance = 2 * np.array(schema.sigmas)
    axes.plot(tolerance, rows, "k|", markersize=12, markeredgewidth=2, label="tolerance (2 sigma)")
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlim(left=0)
    axes.set_xlabel("distance over the square root of the person's area")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    return figure
