"""`uniphd-data from-coco`: RefHuman's format from COCO's keypoint annotations."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from uniphd.cli.data_commands import Commands
from uniphd.datatools.from_coco.convert import Request, convert
from uniphd.datatools.from_coco.entries import Converted
from uniphd.datatools.from_coco.excluded import REFCOCO_EVAL
from uniphd.datatools.from_coco.images import IMAGES
from uniphd.datatools.from_coco.refer import parse_splits
from uniphd.datatools.from_coco.selection import EVERYBODY, LIKE, Rules
from uniphd.errors import printable
from uniphd.keypoints import COCO17, SCHEMAS

_TRAIN, _VAL = LIKE


def add_parser(commands: Commands) -> None:
    """Describe the command's options."""
    command = commands.add_parser(
        "from-coco",
        help="make RefHuman-format data from COCO's keypoint annotations",
        description="Make a file in RefHuman's format from COCO's keypoint annotations: choose "
        "people, draw five scribbles each, join expressions of RefCOCO, RefCOCO+ and RefCOCOg. "
        "The same options give the same file. See docs/train_without_refhuman.md.",
    )
    command.set_defaults(run=_from_coco)
    command.add_argument(
        "annotations", type=Path, metavar="FILE", help="such as person_keypoints_train2017.json"
    )
    command.add_argument("images", type=Path, metavar="IMAGES", help="folder of its images")
    command.add_argument("out", type=Path, metavar="OUT", help="folder of the data set")
    command.add_argument(
        "--name", metavar="FILE", help="file to write in OUT (default: RefHuman_train.json or _val)"
    )
    _add_rules(command)
    _add_captions(command)
    command.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="WHAT",
        help=f"{REFCOCO_EVAL}: images of the validation and test splits of --refer; or a file of "
        "image ids; may be repeated",
    )
    command.add_argument(
        "--keypoints", choices=SCHEMAS, default=COCO17.name, help="default: %(default)s"
    )
    command.add_argument("--seed", type=int, default=0, help="of the scribbles (default: 0)")
    command.add_argument(
        "--copy", action="store_true", help="copy the images instead of linking to their folder"
    )
    command.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    command.add_argument(
        "--workers", type=int, metavar="K", help="processes (default: one per core)"
    )


def _add_rules(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("who is taken")
    like = group.add_mutually_exclusive_group()
    like.add_argument(
        "--like",
        choices=LIKE,
        default=_TRAIN,
        help="by the rules of RefHuman's file (default: %(default)s): "
        + "; ".join(f"{name}: {_described(rules)}" for name, rules in LIKE.items()),
    )
    like.add_argument(
        "--all", action="store_true", help="everybody with a labelled keypoint, as for table 9"
    )
    group.add_argument("--min-others", type=int, metavar="N", help="other people in the image")
    group.add_argument("--min-keypoints", type=int, metavar="N", help="labelled keypoints")
    group.add_argument(
        "--min-area", type=float, metavar="F", help="of the mask, as a fraction of the image"
    )
    group.add_argument("--text-only", action="store_true", help="leave out people without text")


def _described(rules: Rules) -> str:
    return (
        f"{rules.min_others} other people, {rules.min_keypoints} labelled keypoints, "
        f"{100 * rules.min_area:g} %% of the image"
    )


def _add_captions(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("text, each source for those whom the one before lacks")
    group.add_argument(
        "--refer",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="refs(unc).p, refs(umd).p, or JSON, JSON Lines or Parquet with its fields; may be "
        "repeated",
    )
    group.add_argument(
        "--splits",
        type=parse_splits,
        default=(),
        metavar="NAMES",
        help="take expressions of these splits only, such as train or val,testA (default: all)",
    )
    group.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help='JSON Lines: {"annotation_id": 7, "captions": ["...", "..."]}',
    )
    group.add_argument(
        "--template",
        action="store_true",
        help='captions from place and size, such as "the leftmost person", where one person fits',
    )
    group.add_argument(
        "--per-sentence",
        action="store_true",
        help="an entry for every caption, as RefCOCO is evaluated",
    )


def _from_coco(options: argparse.Namespace) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s")
    request = Request(
        annotations=options.annotations,
        images=options.images,
        out=options.out,
        name=options.name or _default_name(options),
        rules=_rules(options),
        refer=options.refer,
        splits=options.splits,
        captions=options.captions,
        template=options.template,
        exclude=options.exclude,
        text_only=options.text_only,
        per_sentence=options.per_sentence,
        keypoints=options.keypoints,
        seed=options.seed,
        copy=options.copy,
        overwrite=options.overwrite,
        workers=options.workers,
    )
    started = time.perf_counter()
    report = convert(request, _progress)
    seconds = time.perf_counter() - started
    for line in report.lines():
        print(printable(line))
    print(f"  {report.people / seconds:,.0f} people per second, {seconds:.1f} s")
    print(printable(f"{request.out / request.name}: {report.entries:,} entries"))
    if (request.out / IMAGES / request.images.resolve().name).is_symlink():
        print(printable(f"Train with data.linked_folders=['{request.images.resolve()}']"))


def _progress(people: Iterable[Converted], count: int) -> Iterable[Converted]:
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        return people
    return track(people, "people", total=count, console=console, transient=True)


def _default_name(options: argparse.Namespace) -> str:
    is_val = options.like == _VAL and not options.all
    return f"RefHuman_{'val' if is_val else 'train'}.json"


def _rules(options: argparse.Namespace) -> Rules:
    rules = EVERYBODY if options.all else LIKE[options.like]
    given = {
        name: getattr(options, name)
        for name in ("min_others", "min_keypoints", "min_area")
        if getattr(options, name) is not None
    }
    return replace(rules, **given)
