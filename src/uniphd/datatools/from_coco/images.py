"""The images of a COCO data set as the new data set has them: a link to their folder, or copies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from uniphd.errors import ConfigError

IMAGES = "images"


def prefix_of(source: Path, out: Path) -> str:
    """What file names of COCO start with in the new files: "train2017/", or "" for `out/images`.

    Args:
        source: folder of the images of COCO.
        out: the data set.
    """
    folder, target = (out / IMAGES).resolve(), source.resolve()
    if not target.is_relative_to(folder):
        return f"{target.name}/"
    inside = target.relative_to(folder).as_posix()
    return "" if inside == "." else f"{inside}/"


def place_images(source: Path, out: Path, copy: bool) -> None:
    """Make the folder of the images below `out/images`, as a link unless they are to be copied.

    Args:
        source: folder of the images of COCO.
        out: the data set; nothing is made where the images are in its folder.
        copy: whether `copy_images` will fill the folder.

    Raises:
        ConfigError: the place is taken by something else, or links cannot be made here.
    """
    folder, target = out / IMAGES, source.resolve()
    if target.is_relative_to(folder.resolve()):
        return
    place = folder / target.name
    folder.mkdir(parents=True, exist_ok=True)
    if copy:
        if place.is_symlink():
            raise ConfigError(f"{place} is a link; remove it to copy the images there.")
        place.mkdir(exist_ok=True)
    elif place.is_symlink() or place.exists():
        if place.resolve() != target:
            raise ConfigError(
                f"{place} is not a link to {target}; name another folder to write to, or remove it."
            )
    else:
        try:
            place.symlink_to(target, target_is_directory=True)
        except OSError as error:
            raise ConfigError(
                f"{place} cannot be made a link to {target} ({error.strerror or error}); copy the "
                "images with --copy."
            ) from error


def copy_images(source: Path, folder: Path, names: Iterable[str]) -> None:
    """Copy images that are not there yet, each at once.

    Args:
        source: folder of the images of COCO.
        folder: where to.
        names: of the images inside of both.
    """
    if folder.resolve() == source.resolve():
        return
    for name in names:
        place = folder / name
        if place.exists() and place.stat().st_size == (source / name).stat().st_size:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{place.name}.part")
        try:
            shutil.copyfile(source / name, part)
            os.replace(part, place)
        finally:
            part.unlink(missing_ok=True)
