"""`uniphd-data stats`: what a data set is made of."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from uniphd.cli.data_commands import Commands, add_data_set
from uniphd.data.paths import at_home
from uniphd.datatools.stats.summary import (
    describe_folder,
    save_plots,
    statistics_table,
    summarize,
)
from uniphd.errors import printable


def add_parser(commands: Commands) -> None:
    """Describe the command's options."""
    command = commands.add_parser(
        "stats",
        help="people per image, sizes, keypoints and captions of a data set",
        description="Count what a data set holds, a column per annotation file: people per image, "
        "sizes, keypoints, lengths and words of captions. Annotations with a problem are left out "
        "and counted.",
    )
    command.set_defaults(run=_stats)
    add_data_set(command)
    command.add_argument(
        "--json", metavar="FILE", help="write all numbers as JSON, to the output with -"
    )
    command.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="folder for plots (PNG), made if missing"
    )


def _stats(options: argparse.Namespace) -> None:
    files = describe_folder(at_home(options.root), options.split)
    if options.json is not None:
        text = json.dumps({file.name: summarize(file) for file in files}, indent=1)
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(f"{text}\n", encoding="utf-8")
    if options.json != "-":
        Console().print(statistics_table(files), markup=False)
    if options.out is not None:
        images = save_plots(files, at_home(options.out))
        if options.json != "-":
            print(printable(f"{len(images)} plots: {options.out}"))
