"""Synthetic people as a RefHuman folder: images and annotation files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from uniphd.data.annotations import ReferredPerson
from uniphd.errors import ConfigError
from uniphd.synthetic.annotations import (
    MAX_SCENES,
    annotation_entry,
    draw_records,
    image_entry,
    image_name,
)
from uniphd.synthetic.layout import SPLITS, Split
from uniphd.synthetic.parallel import ScenePool, scene_pool
from uniphd.synthetic.scene import World

IMAGES, MARKER = "images", "synthetic.json"
_COMPRESSION = 1  # PNG's fastest: noise hardly compresses


class _Row(NamedTuple):
    """What a process sends back of a person."""

    record: ReferredPerson
    referred: bool


def write_folder(
    out: Path, world: World, train: int, val: int, workers: int | None = None
) -> dict[str, int]:
    """Draw and write a data set; an earlier one that this function made is replaced.

    Besides `RefHuman_train.json` and `RefHuman_val.json` there are `RefHuman_val_unseen.json`,
    people in combinations of colours that nobody wears in the two, and, equally difficult,
    `RefHuman_val_seen_pairs.json`. In these two one person per image is referred to; the
    others stand in files of the same names with `_others`.

    Images are PNG, so that they have exactly the drawn pixels. Everything is written beside
    `out` first and moved there at the end.

    Args:
        out: folder to make.
        world: what the scenes depend on.
        train: number of images to train on.
        val: number of images in each of the validation sets.
        workers: processes that draw; None for one per core.

    Returns:
        Number of people by file name.

    Raises:
        ConfigError: `out` holds something else, or cannot be written, or a number is too small or
            too large.
    """
    _require_counts(train, val, workers)
    _require_replaceable(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            folder = Path(temporary) / "new"
            (folder / IMAGES).mkdir(parents=True)
            people: dict[str, int] = {}
            with scene_pool(workers) as pool:
                for split in SPLITS:
                    count = train if split == "train" else val
                    people.update(_write_split(folder, world, split, count, pool))
            _write_json(folder / MARKER, _describe(world, train, val))
            if out.exists():
                out.rename(Path(temporary) / "old")
            folder.rename(out)
    except OSError as error:
        raise ConfigError(
            f"{out} cannot be written ({error.strerror or error}); choose another folder or free "
            "space."
        ) from error
    return people


def _require_counts(train: int, val: int, workers: int | None) -> None:
    for name, number in (("train", train), ("val", val)):
        if not 1 <= number <= MAX_SCENES:
            raise ConfigError(f"{name} is {number} images; give a number from 1 to {MAX_SCENES}.")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; give a number of at least 1.")


def _require_replaceable(out: Path) -> None:
    """Refuse to replace what `write_folder` did not make."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file; name a folder to make.")
    found = {path.name for path in out.iterdir()}
    files = {_file_name(split, others) for split in SPLITS for others in (False, True)}
    foreign = sorted(found - files - {IMAGES, MARKER})
    if found and (MARKER not in found or foreign):
        example = f" (such as {foreign[0]})" if foreign else ""
        raise ConfigError(
            f"{out} holds files that this command did not write{example}; name another folder or "
            "empty this one."
        )


def _write_split(
    folder: Path, world: World, split: Split, count: int, pool: ScenePool
) -> Mapping[str, int]:
    """Write the images and files of one split; returns the number of people by file name."""
    drawn = pool.map(partial(_write_scene, folder, world, split), count)
    rows = [row for scene in drawn for row in scene]
    people = {}
    for others in (False, True):
        chosen = [row for row in rows if row.referred != others]
        if chosen:
            name = _file_name(split, others)
            _write_json(folder / name, _content(chosen))
            people[name] = len(chosen)
    return people


def _write_scene(folder: Path, world: World, split: Split, index: int) -> list[_Row]:
    drawn = draw_records(world, split, index)
    path = folder / IMAGES / image_name(split, index)
    Image.fromarray(drawn.image).save(path, compress_level=_COMPRESSION)
    return [_Row(*row) for row in zip(drawn.records, drawn.referred, strict=True)]


def _file_name(split: Split, others: bool) -> str:
    return f"RefHuman_{split}_others.json" if others else f"RefHuman_{split}.json"


def _content(rows: Sequence[_Row]) -> dict[str, Any]:
    return {
        "info": {"description": "Drawn people in RefHuman's format"},
        "categories": [{"id": 1, "name": "person"}],
        "images": [image_entry(row.record) for row in rows],
        "annotations": [annotation_entry(row.record) for row in rows],
    }


def _describe(world: World, train: int, val: int) -> dict[str, Any]:
    return {
        "made_by": "uniphd-data synth",
        "seed": world.seed,
        "height": world.size[0],
        "width": world.size[1],
        "people": list(world.people),
        "train": train,
        "val": val,
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
