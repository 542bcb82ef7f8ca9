"""`uniphd-report`: compare finished runs in one table, with curves and the published numbers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from uniphd.analysis.plots import plot_metrics
from uniphd.analysis.published import published_models
from uniphd.analysis.run_log import RunError
from uniphd.analysis.runs import Run, find_runs, read_run
from uniphd.analysis.table import make_table, to_csv, to_markdown
from uniphd.errors import printable
from uniphd.interrupt import exit_at_interrupt
from uniphd.refusals import exit_on_user_error


@exit_at_interrupt("uniphd-report")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: the command line without the program's name; None is that of the process.
    """
    options = _parser().parse_args(arguments)
    with exit_on_user_error("uniphd-report"):
        _report(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uniphd-report",
        description="Compare finished runs: report.md and report.csv with a row per run, and a "
        "image per metric.",
    )
    parser.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="RUN_DIR",
        help="folder of a run of uniphd-train, or of a sweep; searched for runs",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("outputs/report"),
        metavar="DIR",
        help="folder to write to (default: %(default)s)",
    )
    parser.add_argument(
        "--at",
        choices=("best", "last"),
        default="best",
        help="the validation to compare: that of each run's best checkpoint, or the last one "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--published",
        action=argparse.BooleanOptionalAction,
        help="put the paper's numbers on RefHuman val below the runs (default: if a run has "
        "data=refhuman)",
    )
    return parser


def _report(options: argparse.Namespace) -> None:
    runs = _read_runs(options.folders)
    published = options.published
    if published is None:
        published = any(run.choices.get("data") == "refhuman" for run in runs)
    table = make_table(runs, options.at, published_models() if published else ())
    markdown = to_markdown(table)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "report.md").write_text(markdown, encoding="utf-8")
        (options.out / "report.csv").write_text(to_csv(table), encoding="utf-8")
        plot_metrics(runs, table, options.out)
    except OSError as error:
        raise RunError(f"cannot write to {options.out}: {error.strerror}") from error
    print(markdown)
    print(printable(f"{len(runs)} runs; table and curves: {options.out}"))


def _read_runs(folders: Sequence[Path]) -> list[Run]:
    """The usable runs; the others are named on the error output."""
    runs = []
    for folder in find_runs(folders):
        try:
            runs.append(read_run(folder))
        except RunError as error:
            print(f"uniphd-report: left out: {error}", file=sys.stderr)
    if not runs:
        places = ", ".join(str(folder) for folder in folders)
        raise RunError(f"no run with a validation in {places}; give folders of uniphd-train.")
    return runs


if __name__ == "__main__":
    main()
