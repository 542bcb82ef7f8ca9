"""Curves over training steps, side by side in one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from matplotlib.figure import Figure

Curves: TypeAlias = Mapping[str, Sequence[tuple[int, float]]]
"""Points (step, value) by the name of the curve."""


def plot_curves(panels: Mapping[str, Curves], path: Path) -> None:
    """Save one panel per entry, in a row.

    Args:
        panels: curves by the title of their panel; the panel "loss" has a logarithmic axis.
        path: the image; its folder is made if it is missing. Nothing is written without panels.
    """
    if not panels:
        return
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    for axes, (title, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, points in curves.items():
            steps, values = zip(*points, strict=True)
            marker = "o" if len(points) < 20 else None
            axes.plot(steps, values, label=name, marker=marker, markersize=3, linewidth=1.2)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        if title == "loss":
            axes.set_yscale("log")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
