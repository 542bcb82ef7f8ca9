"""Paths as people write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uniphd.errors import ConfigError


def at_home(path: Path | str) -> Path:
    """A path whose leading `~` or `~NAME` is a home folder, unless there is something of that name.

    Shells replace `~` before words only, and not in `data.root=~/x`.

    Raises:
        ConfigError: it is a number or the like, as Hydra reads a name of digits.
    """
    if not isinstance(path, str | Path):
        raise ConfigError(f"The path {path!r} is no text; write it ./{path}, or in quotes.")
    path = Path(path)
    try:
        return path if path.exists() else path.expanduser()
    except RuntimeError:  # nobody has that name
        return path


def existing_folders(paths: Sequence[str] | str) -> tuple[Path, ...]:
    """Folders that exist; one may stand alone.

    Raises:
        ConfigError: one does not.
    """
    folders = tuple(map(at_home, [paths] if isinstance(paths, str) else paths))
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"linked_folders has {folder}, which is no folder; correct it.")
    return folders
