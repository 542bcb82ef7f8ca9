"""The commands of `uniphd-data`: a file each, with `add_parser`."""

import argparse
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_data_set(command: argparse.ArgumentParser) -> None:
    """The arguments that say which files of a data set are read."""
    command.add_argument(
        "root", type=Path, metavar="ROOT", help="folder of the data set, or an annotation file"
    )
    command.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME",
        help="train, val, ...; may be given several times (default: all)",
    )


def positive(text: str) -> int:
    """A number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)
