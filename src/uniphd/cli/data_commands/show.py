"""`uniphd-data show`: a page with the people of a data set."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from uniphd.cli.data_commands import Commands, add_data_set, positive
from uniphd.datatools.show.run import show_folder
from uniphd.errors import printable

_SMALLEST, _LARGEST = 32, 2000  # pixels


def add_parser(commands: Commands) -> None:
    """Describe the command's options."""
    command = commands.add_parser(
        "show",
        help="a page with the people of a data set, their problems and predictions",
        description="Write one HTML page with the people of a data set: image, box, skeleton, "
        "mask, scribbles, captions and problems, with filters. It needs no network and no server.",
    )
    command.set_defaults(run=_show)
    add_data_set(command)
    command.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("people.html"),
        metavar="FILE",
        help="the page (default: %(default)s)",
    )
    command.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder of uniphd-eval: show predictions beside annotations, the worst first",
    )
    command.add_argument(
        "--limit",
        type=positive,
        default=10_000,
        metavar="N",
        help="people on the page: those with problems first, then the worst predictions, or an "
        "even selection (default: %(default)s)",
    )
    command.add_argument(
        "--size",
        type=_side,
        default=240,
        metavar="PIXELS",
        help="longer side of the images on the page (default: %(default)s)",
    )
    command.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the images (default: ROOT, or images in it or beside the file)",
    )


def _show(options: argparse.Namespace) -> None:
    started = time.perf_counter()
    written = show_folder(
        options.root,
        options.out,
        splits=options.split,
        results=options.results,
        limit=options.limit,
        side=options.size,
        image_folder=options.images,
        workers=os.cpu_count() or 1,
    )
    of = f"{written.people} of {written.of}" if written.people < written.of else written.people
    print(
        printable(
            f"{options.out}: {of} people in {written.images} images, "
            f"{written.size / 1e6:.1f} MB ({time.perf_counter() - started:.1f} s)"
        )
    )


def _side(text: str) -> int:
    if not text.isdecimal() or not _SMALLEST <= int(text) <= _LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {_SMALLEST} to {_LARGEST}")
    return int(text)
