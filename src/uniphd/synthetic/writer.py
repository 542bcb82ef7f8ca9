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
    image_entry,
    image_name,
    render_annotated,
)
from uniphd.synthetic.layout import SPLITS, Split
from uniphd.synthetic.parallel import parallel_map
from uniphd.synthetic.scene import SceneConfig

IMAGES, MARKER = "images", "synthetic.json"
_COMPRESSION = 1  # PNG's fastest: noise hardly compresses


class _Row(NamedTuple):
    """What a process sends back of a person."""

    split: Split
    annotation: ReferredPerson
    referred: bool


def write_folder(
    out: Path, config: SceneConfig, train: int, val: int, workers: int | None = None
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
        config: what the scenes depend on.
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
            jobs = [
                (split, index)
                for split in SPLITS
                for index in range(train if split == "train" else val)
            ]
            scenes = parallel_map(partial(_write_scene, folder, config), jobs, workers)
            people = _write_annotations(folder, [row for rows in scenes for row in rows])
            _write_json(folder / MARKER, _describe(config, train, val))
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


def _write_scene(folder: Path, config: SceneConfig, job: tuple[Split, int]) -> list[_Row]:
    scene = render_annotated(config, *job)
    Image.fromarray(scene.image).save(
        folder / IMAGES / image_name(*job), compress_level=_COMPRESSION
    )
    rows = zip(scene.annotations, scene.referred, strict=True)
    return [_Row(job[0], *row) for row in rows]


def _write_annotations(folder: Path, rows: Sequence[_Row]) -> dict[str, int]:
    """Write the annotation files; returns the number of people by file name."""
    files: dict[str, list[ReferredPerson]] = {}
    for split, annotation, referred in rows:
        files.setdefault(_file_name(split, not referred), []).append(annotation)
    for name, people in files.items():
        _write_json(folder / name, _content(people))
    return {name: len(people) for name, people in files.items()}


def _file_name(split: Split, others: bool) -> str:
    return f"RefHuman_{split}_others.json" if others else f"RefHuman_{split}.json"


def _content(annotations: Sequence[ReferredPerson]) -> dict[str, Any]:
    return {
        "info": {"description": "Synthetic people in RefHuman's format"},
        "categories": [{"id": 1, "name": "person"}],
        "images": [image_entry(annotation) for annotation in annotations],
        "annotations": [annotation_entry(annotation) for annotation in annotations],
    }


def _describe(config: SceneConfig, train: int, val: int) -> dict[str, Any]:
    return {
        "made_by": "uniphd-data synth",
        "seed": config.seed,
        "height": config.size[0],
        "width": config.size[1],
        "people": list(config.people),
        "train": train,
        "val": val,
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
