"""Whose a library in the cache is: loading it runs its code."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from uniphd.ops.errors import NativeOpsError


def require_own(*paths: Path) -> None:
    """Refuse files and folders that another user has made, or could change.

    Args:
        paths: a library, or folders of the cache.

    Raises:
        NativeOpsError: one belongs to another user than this one or root, or more users than its
            owner may write to it.
    """
    if os.name != "posix":
        return
    for path in paths:
        status = path.stat()
        if status.st_uid not in (os.geteuid(), 0):
            wrong = f"belongs to another user (number {status.st_uid})"
        elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            wrong = f"may be changed by others (mode {stat.S_IMODE(status.st_mode):o})"
        else:
            continue
        raise NativeOpsError(
            f"{path} {wrong}, so that what it holds is not run: set UNIPHD_CACHE to a folder of "
            "your own, or delete it to build anew"
        )
