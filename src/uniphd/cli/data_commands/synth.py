"""`uniphd-data synth`: draw synthetic people."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

from uniphd.cli.data_commands import Commands
from uniphd.errors import printable
from uniphd.synthetic.scene import SceneConfig
from uniphd.synthetic.writer import write_folder


def add_parser(commands: Commands) -> None:
    """Describe the command's options."""
    command = commands.add_parser(
        "synth",
        help="draw synthetic people in RefHuman's format",
        description="Draw images of synthetic people with captions, scribbles, masks and "
        "keypoints, in RefHuman's format. The same options give the same files.",
    )
    command.set_defaults(run=_synth)
    command.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    command.add_argument(
        "--train", type=int, default=6000, metavar="N", help="images (default: %(default)s)"
    )
    command.add_argument(
        "--val",
        type=int,
        default=500,
        metavar="N",
        help="images in each of the three validation files (default: %(default)s)",
    )
    command.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    command.add_argument(
        "--size", type=_size, default=(128, 128), metavar="WxH", help="pixels (default: 128x128)"
    )
    command.add_argument(
        "--people",
        type=_range,
        default=(2, 4),
        metavar="MIN-MAX",
        help="people per image (default: 2-4)",
    )
    command.add_argument(
        "--workers", type=int, metavar="K", help="processes that draw (default: one per core)"
    )


def _synth(options: argparse.Namespace) -> None:
    config = SceneConfig(options.seed, options.size, options.people)
    started = time.perf_counter()
    people = write_folder(options.out, config, options.train, options.val, options.workers)
    seconds = time.perf_counter() - started
    for name, count in people.items():
        print(printable(f"{options.out / name}: {count} people"))
    scenes = options.train + 3 * options.val
    print(f"{scenes} images in {seconds:.1f} s ({scenes / seconds:.0f} per second)")


def _size(text: str) -> tuple[int, int]:
    """(height, width) of "WxH"."""
    width, height = _numbers(text, "x", "640x480")
    return height, width


def _range(text: str) -> tuple[int, int]:
    """Both numbers of "MIN-MAX"."""
    return _numbers(text, "-", "2-4")


def _numbers(text: str, separator: str, example: str) -> tuple[int, int]:
    match = re.fullmatch(rf"(\d+){separator}(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers such as {example}")
    return int(match[1]), int(match[2])
