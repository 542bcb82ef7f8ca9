"""`uniphd-data check`: say everything that is wrong with a data set, and mend it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TextIO

from uniphd.cli.data_commands import Commands, positive
from uniphd.data.paths import at_home, existing_folders
from uniphd.datatools.check.fixing import mend_folder
from uniphd.datatools.check.report import as_json, change_lines, problem_lines
from uniphd.datatools.check.run import FolderCheck, check_folder
from uniphd.datatools.check.writing import LOG, require_new, write_fix
from uniphd.errors import AnnotationError, printable

_UNREADABLE = 2


def add_parser(commands: Commands) -> None:
    """Describe the command's options."""
    command = commands.add_parser(
        "check",
        help="say what is wrong with a data set, and mend it",
        description="Check annotation files and images, say everything that is wrong with them, "
        "and mend what has a known right value. Exit status: 0 nothing is wrong, 1 something is, 2 "
        "a file cannot be read.",
    )
    command.set_defaults(run=_check)
    command.add_argument(
        "root", type=Path, metavar="ROOT", help="folder of the annotation files and images"
    )
    command.add_argument(
        "--json", metavar="FILE", help="write all that is found as JSON, to the output with -"
    )
    command.add_argument(
        "--fix",
        type=Path,
        metavar="OUT",
        help="folder to make: mended, without what has no known right value, and with a log; ROOT "
        "stays as it is",
    )
    command.add_argument(
        "--linked-folder",
        action="append",
        default=[],
        metavar="FOLDER",
        help="links of the image folder may lead there, as with data.linked_folders; may be given "
        "several times",
    )
    command.add_argument(
        "--workers", type=positive, metavar="K", help="processes (default: one per core)"
    )


def _check(options: argparse.Namespace) -> None:
    root, to_output = at_home(options.root), options.json == "-"
    if options.fix is not None:
        require_new(root, at_home(options.fix))
    try:
        linked = existing_folders(options.linked_folder)
        checked = check_folder(root, options.workers or os.cpu_count() or 1, linked)
    except AnnotationError as error:
        print(f"uniphd-data: {error}", file=sys.stderr)
        sys.exit(_UNREADABLE)
    if options.json is not None:
        text = json.dumps(as_json(checked), indent=1)
        print(text) if to_output else Path(options.json).write_text(f"{text}\n", encoding="utf-8")
    if not to_output:
        _print(checked)
    if options.fix is not None:
        _fix(checked, at_home(options.fix), sys.stderr if to_output else sys.stdout)
    sys.stdout.flush()
    sys.exit(checked.status)


def _print(checked: FolderCheck) -> None:
    for check in checked.checks:
        people = f"{len(check.records):,} people" if check.form else "cannot be read"
        print(printable(f"{check.file.name}: {people}"))
    coco = [finding.file for finding in checked.findings if finding.kind == "COCO form"]
    if coco:
        print(
            printable(
                f"{', '.join(coco)}: in COCO's form, without captions; uniphd-data from-coco makes "
                "RefHuman's form of it."
            )
        )
    total = len(checked.findings)
    for line in problem_lines(checked.findings) if total else ():
        print(line)
    said = f"{total:,} problems" if total else "nothing is wrong"
    print(f"{len(checked.images):,} images; {said}")


def _fix(checked: FolderCheck, out: Path, stream: TextIO) -> None:
    fix = mend_folder(checked)
    write_fix(checked.root, out, fix)
    for line in change_lines(fix.log):
        print(line, file=stream)
    for name in fix.left_out:
        print(printable(f"left out: {name}"), file=stream)
    print(printable(f"{out}: {len(fix.files)} files; {LOG} in it has each change"), file=stream)
