"""One row per run: what differs between the runs, and the main metrics per prompt kind."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from uniphd.analysis.published import SOURCE, PublishedModel
from uniphd.analysis.runs import Run
from uniphd.errors import printable
from uniphd.prompts import KINDS

MAIN_METRICS = ("pose_AP", "PCKh@0.5", "oIoU", "mIoU", "mask_AP", "referring_acc")
_MARK = " †"  # of a run with a caveat
_MEAN = "mean"  # over the kinds
_MAX_SETTINGS = 6  # beside the metrics
_BOOKKEEPING = frozenset(  # groups and keys of the configuration that decide about no number
    ("run_id", "name", "paths", "logger", "ckpt_path", "print_summary", "launcher", "sweep")
)
# What Markdown would take for markup; underscores inside of words are none.
_MARKUP = re.compile(r"[\\`*<|$]|~(?=~)|(?<!\w)_|_(?!\w)|(?<=\])\(")

Moment: TypeAlias = Literal["best", "last"]
"""The validation whose metrics stand in the table."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the run, or of the published model.
        source: "measured", or where the numbers were published.
        settings: values by the keys of `Table.settings`.
        last_step: of the last validation; None for published numbers.
        best_step: of the best validation; None for published numbers.
        metrics: fractions by "<prompt kind>/<metric>".
        caveat: why they are not to be compared with others; "" where they are.
    """

    name: str
    source: str
    settings: dict[str, str]
    last_step: int | None
    best_step: int | None
    metrics: dict[str, float]
    caveat: str = ""


@dataclass(frozen=True)
class Table:
    """The comparison.

    Attributes:
        settings: keys whose values differ between the runs.
        shared: values that command lines gave and that are the same in all runs, by key.
        monitors: the metrics that chose the runs' best validations, each once.
        kinds: prompt kinds that were validated, and "mean" where that is of several.
        metrics: the main metrics that some run has.
        moment: the validation whose metrics these are.
        rows: the runs in their order, then the published models.
    """

    settings: tuple[str, ...]
    shared: dict[str, str]
    monitors: tuple[str, ...]
    kinds: tuple[str, ...]
    metrics: tuple[str, ...]
    moment: Moment
    rows: tuple[Row, ...]


def make_table(runs: Sequence[Run], moment: Moment, published: Sequence[PublishedModel]) -> Table:
    """Compare runs.

    Args:
        runs: at least one.
        moment: the validation to compare.
        published: models to put below; those without a number for a shown prompt kind are left out.
    """
    keys = _given_settings(runs)
    settings = [key for key in keys if len({run.setting(key) for run in runs}) > 1]
    shared = {key: runs[0].setting(key) for key in keys if key not in settings}
    monitors = tuple(dict.fromkeys(run.monitor for run in runs))
    measured = [_measured_row(run, name, settings, moment) for run, name in named_runs(runs)]
    present = {key for row in measured for key in row.metrics}
    kinds = _kinds_in_order({key.partition("/")[0] for key in present})
    if not any(_validated_kinds(run) > 1 for run in runs):
        kinds.remove(_MEAN)
    metrics = [name for name in MAIN_METRICS if any(f"{kind}/{name}" in present for kind in kinds)]
    shown = {f"{kind}/{name}" for kind in kinds for name in metrics}
    others = [
        Row(model.name, f"published ({SOURCE})", {}, None, None, model.metrics)
        for model in published
        if shown & model.metrics.keys()
    ]
    return Table(
        tuple(settings),
        shared,
        monitors,
        tuple(kinds),
        tuple(metrics),
        moment,
        (*measured, *others),
    )


def named_runs(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """Every run with a short name that no other has: its folder, below that of all runs."""
    folders = [run.folder.resolve() for run in runs]
    common = Path(os.path.commonpath(folders))
    names = [printable(folder.relative_to(common).as_posix()) for folder in folders]
    return [
        (run, printable(run.folder.resolve().name) if name == "." else name)
        for run, name in zip(runs, names, strict=True)
    ]


def to_markdown(table: Table) -> str:
    """The table for people: one cell per prompt kind, in percent with one decimal.

    Settings that are too many for columns follow as a table of their own, a column per run.
    """
    beside = table.settings if len(table.settings) <= _MAX_SETTINGS else ()
    chosen_by = f" by {', '.join(table.monitors)}" if table.moment == "best" else ""
    shared = " ".join(f"{key}={value}" for key, value in table.shared.items())
    columns = ["run", *beside, "last step", "best step", *table.kinds]
    lines = [
        f"Cells: {' / '.join(table.metrics)}, in percent, at the {table.moment} validation"
        f"{chosen_by}; steps count from 0.",
        *([f"In all runs: {_plain(shared)}"] if shared else ()),
        "",
        _line(columns),
        _line(["---"] * (1 + len(beside)) + ["---:"] * (2 + len(table.kinds))),
    ]
    for row in table.rows:
        name = row.name if row.last_step is not None else f"{row.name} – {row.source}"
        name += _MARK if row.caveat else ""
        steps = ["" if step is None else str(step) for step in (row.last_step, row.best_step)]
        settings = [row.settings.get(key, "") for key in beside]
        lines.append(_line([name, *settings, *steps, *(_cell(table, row, k) for k in table.kinds)]))
    if any(row.caveat for row in table.rows):
        lines += ["", _footnote(table)]
    if len(beside) < len(table.settings):
        lines += ["", *_settings_lines(table)]
    return "\n".join(lines) + "\n"


def to_csv(table: Table) -> str:
    """The table for programs: one column per metric and prompt kind, fractions, empty for none."""
    names = [f"{kind}/{metric}" for kind in table.kinds for metric in table.metrics]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", "source", "caveat", *table.settings, "last_step", "best_step", *names])
    for row in table.rows:
        settings = [row.settings.get(key, "") for key in table.settings]
        values = [row.metrics.get(name, math.nan) for name in names]
        cells = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
        steps = [row.last_step, row.best_step]
        writer.writerow([row.name, row.source, row.caveat, *settings, *steps, *cells])
    return file.getvalue()


def _given_settings(runs: Sequence[Run]) -> list[str]:
    """Keys of the runs' command lines that say what was computed.

    Where a run is kept, how it is called and who is told of it do not.
    """
    given = dict.fromkeys(key for run in runs for key in run.overrides)
    return [key for key in given if re.split("[./]", key)[0] not in _BOOKKEEPING]


def _measured_row(run: Run, name: str, settings: Sequence[str], moment: Moment) -> Row:
    validation = run.best if moment == "best" else run.last
    values = {key: run.setting(key) for key in settings}
    steps = (run.last.step, run.best.step)
    return Row(name, "measured", values, *steps, validation.metrics, run.caveat)


def _validated_kinds(run: Run) -> int:
    return len({name.partition("/")[0] for name in run.last.metrics} - {_MEAN})


def _kinds_in_order(found: set[str]) -> list[str]:
    """Prompt kinds in their usual order, then others by name, then the mean."""
    usual = list(KINDS)
    return sorted(found, key=lambda kind: (kind == _MEAN, (*usual, kind).index(kind), kind))


def _footnote(table: Table) -> str:
    """Why the numbers of some runs are not to be compared, each reason once."""
    names: dict[str, list[str]] = {}
    for row in table.rows:
        if row.caveat:
            names.setdefault(row.caveat, []).append(row.name)
    reasons = (f"{reason} ({', '.join(runs)})" for reason, runs in names.items())
    return _plain(f"{_MARK.strip()} Not to be compared with other numbers: {'; '.join(reasons)}.")


def _settings_lines(table: Table) -> list[str]:
    """One line per setting, one column per run."""
    rows = [row for row in table.rows if row.last_step is not None]
    head = [_line(["setting", *(row.name for row in rows)]), _line(["---"] * (1 + len(rows)))]
    return head + [_line([key, *(row.settings[key] for row in rows)]) for key in table.settings]


def _cell(table: Table, row: Row, kind: str) -> str:
    """The metrics of one prompt kind, "" where the row has none of them."""
    values = [row.metrics.get(f"{kind}/{metric}", math.nan) for metric in table.metrics]
    if all(math.isnan(value) for value in values):
        return ""
    return " / ".join("–" if math.isnan(value) else f"{100 * value:.1f}" for value in values)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text of users as Markdown shows it: on one line, and nothing in it is markup."""
    return _MARKUP.sub(r"\\\g<0>", printable(re.sub(r"\s+", " ", text)))
