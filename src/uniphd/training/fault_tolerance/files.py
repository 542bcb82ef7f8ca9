"""Files that are either the old or the new, whenever the process or the machine stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from uniphd.errors import StorageError


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """Write a file beside `path` that takes its place once it is complete and on the disk.

    The unfinished file has one name, `.<name>.part`, so that those of processes that were killed do
    not pile up.

    Args:
        path: the file to write; its folder is created when missing.
        keep: what the file that was at `path` is called afterwards; None removes it.

    Yields:
        The file to write to.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to; `path` is as it was.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if keep is not None and path.exists():
                path.replace(keep)
            part.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}. What was there before is as it "
            "was; free space or choose another folder, and start again."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make the renaming last through a power failure, where folders can be opened (POSIX)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
