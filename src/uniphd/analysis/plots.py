"""An image per main metric: its course in all runs, a panel per prompt kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from uniphd.analysis.runs import Run
from uniphd.analysis.table import Table, named_runs

_MAX_SETTINGS = 3  # in the legend, behind the run's name
_LINE = 0.2  # inches of height per line of the legend


def plot_metrics(runs: Sequence[Run], table: Table, folder: Path) -> list[Path]:
    """Save `<metric>.png` for every metric of the table; a run has one colour everywhere.

    Args:
        runs: the runs of the table.
        table: says which metrics and prompt kinds there are, and what differs between runs.
        folder: where to, existing.

    Returns:
        The images.
    """
    images = [folder / f"{metric}.png" for metric in table.metrics]
    for metric, path in zip(table.metrics, images, strict=True):
        metric_figure(runs, table, metric).savefig(path, dpi=110)
    return images


def metric_figure(runs: Sequence[Run], table: Table, metric: str) -> Figure:
    """The course of one metric in percent, with a panel per prompt kind and one legend."""
    height = max(3.4, _LINE * len(runs))
    figure = Figure(figsize=(4 * len(table.kinds) + 2, height), layout="constrained")
    panels = figure.subplots(1, len(table.kinds), squeeze=False, sharey=True)[0]
    labels = {name: _label(run, name, table) for run, name in named_runs(runs)}
    lines = {}
    for axes, kind in zip(panels, table.kinds, strict=True):
        for number, (run, name) in enumerate(named_runs(runs)):
            points = _points(run, f"{kind}/{metric}")
            if points:
                colour = colormaps["tab20"](number % 20)
                lines[name] = axes.plot(*zip(*points, strict=True), ".-", color=colour)[0]
        axes.set_title(kind, parse_math=False)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"{metric} (%)")
    panels[0].set_ylim(bottom=max(0.0, panels[0].get_ylim()[0]))
    shown = [labels[name] for name in lines]
    title = f"run: {', '.join(table.settings)}" if _settings_in_legend(table) else "run"
    legend = figure.legend(
        list(lines.values()), shown, title=title, loc="outside right upper", fontsize="small"
    )
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)
    return figure


def _points(run: Run, name: str) -> list[tuple[int, float]]:
    """(step, percent) of the validations that have the metric."""
    return [(v.step, 100 * v.metrics[name]) for v in run.validations if name in v.metrics]


def _label(run: Run, name: str, table: Table) -> str:
    """A run's name, and its settings where they are few."""
    if not _settings_in_legend(table):
        return name
    return f"{name}: {', '.join(run.setting(key) or '–' for key in table.settings)}"


def _settings_in_legend(table: Table) -> bool:
    return 0 < len(table.settings) <= _MAX_SETTINGS
