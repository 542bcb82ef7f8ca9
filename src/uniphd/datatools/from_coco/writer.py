"""A RefHuman file written entry by entry, which appears once it is complete."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from uniphd.datatools.from_coco.entries import Converted
from uniphd.training.fault_tolerance.files import replacing


def write_entries(
    path: Path, people: Iterable[Converted], about: Callable[[], Mapping[str, Any]]
) -> None:
    """Write the two lists, one after the other in the file although they come together.

    Annotations wait in a file without a name in the same folder. Where anything is raised, what was
    at `path` stays.

    Args:
        path: the file to write.
        people: their entries.
        about: gives what else stands at the top of the file, when all people are written.

    Raises:
        StorageError: the disk is full or the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file, tempfile.TemporaryFile(dir=path.parent) as waiting:
        file.write(b'{"images": [')
        is_first = True
        for person in people:
            _append(file, person.images, is_first)
            _append(waiting, person.annotations, is_first)
            is_first = is_first and not person.images
        file.write(b'\n], "annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, file, 1 << 20)
        file.write(b"\n]")
        for name, value in about().items():
            file.write(f",\n{json.dumps(name)}: {json.dumps(value)}".encode())
        file.write(b"}\n")


def _append(file: BinaryIO | Any, entries: Iterable[str], is_first: bool) -> None:
    for entry in entries:
        file.write((("\n" if is_first else ",\n") + entry).encode())
        is_first = False
