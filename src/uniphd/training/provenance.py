"""Where a run comes from: configuration, code, versions, command and machine, as plain values."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from uniphd.ops.info import versions

_CLONE = Path(__file__).resolve().parents[3]  # where the package is used from a clone
_LIBRARIES = ("torchvision", "lightning", "timm", "transformers", "numpy")


def describe_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be known to repeat a run, or to explain why it cannot be.

    Args:
        config: the resolved configuration, of plain values.

    Returns:
        `config`, `git` (see `git_state`), `versions`, `command` and `date` (UTC, ISO 8601).
    """
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "git": git_state(_CLONE),
        "versions": {**versions(), **{name: metadata.version(name) for name in _LIBRARIES}},
        "config": dict(config),
    }


def git_state(root: Path) -> dict[str, Any] | None:
    """The commit of a clone, and whether its files differ from it.

    Args:
        root: top folder of the clone.

    Returns:
        `commit`, and `dirty`: whether there are changes or new files that git does not ignore. None
        where `root` is not the top of a clone, or git is missing.
    """
    try:
        if _git(root, "rev-parse", "--show-prefix"):  # a folder inside somebody else's clone
            return None
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()
