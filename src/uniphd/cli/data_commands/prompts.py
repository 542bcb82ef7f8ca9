"""`uniphd-data prompts`: spatial prompts for everybody in a COCO file."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

from uniphd.cli.data_commands import Commands
from uniphd.data.coco_file import read_coco
from uniphd.data.coco_prompts import SPATIAL_KINDS, prompt_lines
from uniphd.data.problems import OnError
from uniphd.errors import ConfigError, printable
from uniphd.keypoints import COCO17, SCHEMAS, keypoint_schema
from uniphd.training.fault_tolerance.files import replacing


def add_parser(commands: Commands) -> None:
    """Describe the command's options."""
    command = commands.add_parser(
        "prompts",
        help="make a spatial prompt for everybody in a COCO file",
        description="Make points, scribbles, boxes and masks for everybody in a COCO keypoints "
        "file, one JSON object per line, for uniphd-eval protocol=coco. The same options give the "
        "same file. See docs/evaluate_coco.md.",
    )
    command.set_defaults(run=_prompts)
    command.add_argument(
        "annotations", type=Path, metavar="COCO.json", help="such as person_keypoints_val2017.json"
    )
    command.add_argument("out", type=Path, metavar="OUT.jsonl", help="file to write")
    command.add_argument(
        "--seed", type=int, default=0, help="of scribbles and points (default: %(default)s)"
    )
    command.add_argument(
        "--kinds",
        nargs="+",
        choices=SPATIAL_KINDS,
        default=SPATIAL_KINDS,
        metavar="KIND",
        help=f"of prompts (default: {' '.join(SPATIAL_KINDS)})",
    )
    command.add_argument(
        "--skip", action="store_true", help="leave unusable annotations out and count them"
    )
    command.add_argument(
        "--keypoints", choices=SCHEMAS, default=COCO17.name, help="default: %(default)s"
    )
    command.add_argument("--overwrite", action="store_true", help="replace a file of that name")


def _prompts(options: argparse.Namespace) -> None:
    if options.out.exists() and not options.overwrite:
        raise ConfigError(f"{options.out} exists; name another file, or give --overwrite.")
    on_error: OnError = "skip" if options.skip else "raise"
    coco = read_coco(options.annotations, on_error, keypoint_schema(options.keypoints))
    kinds = list(dict.fromkeys(options.kinds))
    started = time.perf_counter()
    with replacing(options.out) as file:
        progress = track(
            prompt_lines(coco.people, kinds, options.seed),
            "prompts",
            len(coco.people) * len(kinds),
            console=Console(file=sys.stderr),
            disable=not sys.stderr.isatty(),
        )
        for line in progress:
            file.write(f"{line}\n".encode())
    seconds = time.perf_counter() - started
    images = len({person.image_id for person in coco.people})
    asked = f"{len(coco.people)} people in {images} images, {' '.join(kinds)}"
    print(printable(f"{options.out}: {asked}; {seconds:.1f} s"))
    missed = sum(coco.unpromptable.values())
    if missed:
        reasons = ", ".join(f"{count} x {kind}" for kind, count in coco.unpromptable.items())
        print(f"no prompt for {missed} people: {reasons}")
