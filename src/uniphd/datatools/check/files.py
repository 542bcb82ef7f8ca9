"""The annotation files of a folder, whatever tool wrote them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from uniphd.data.json_file import NotUnicodeError, read_json
from uniphd.datatools.check.finding import Finding
from uniphd.errors import AnnotationError

_PATTERNS = ("*.json", "*.json.gz")
_OURS = "RefHuman_"
_LOOKED_AT = 50  # names of images, to find their folder
_SPLIT = re.compile(r"(?<![a-z])(train|val|valid|validation|test)(?![a-z])", re.IGNORECASE)


@dataclass
class DataFile:
    """An annotation file.

    Attributes:
        name: its path in the folder.
        content: the JSON object, with its lists `images` and `annotations`; None where the file
            cannot be read.
        images: the folder of its images.
        findings: what is wrong with the file as such.
    """

    name: str
    content: dict[str, Any] | None
    images: Path
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_coco_form(self) -> bool:
        """Whether it has COCO's form: no image has a caption, or says that it has none."""
        assert self.content is not None
        entries = [entry for entry in self.content["images"] if isinstance(entry, Mapping)]
        # People without text have an empty list `captions`.
        return bool(entries) and not any(
            {"caption", "captions"} & entry.keys() for entry in entries
        )

    @property
    def split(self) -> str:
        """What the name says: "train", "val", or nothing."""
        words = _SPLIT.findall(self.name)
        word = words[-1].casefold() if words else ""
        return {"valid": "val", "validation": "val", "test": "val"}.get(word, word)


def read_files(root: Path, read: Callable[[Path], Any] = read_json) -> list[DataFile]:
    """Read the annotation files of a folder and of the folders in it.

    JSON files without the lists `images` and `annotations` are something else, and passed over.

    Args:
        root: the folder.
        read: reads a JSON file, such as `uniphd.datatools.packed_json.read_packed`.

    Raises:
        AnnotationError: there is no such folder, or no annotation file in it.
    """
    if not root.is_dir():
        raise AnnotationError(f"{root} is no folder; name the one that holds the annotation files.")
    paths = [path for pattern in _PATTERNS for path in root.glob(pattern)]
    for folder in root.iterdir():
        if folder.is_dir() and folder.name != "images" and not folder.name.startswith("."):
            paths += [path for pattern in _PATTERNS for path in folder.glob(pattern)]
    files = [_read(root, path, read) for path in sorted(paths) if path.is_file()]
    found = [file for file in files if file is not None]
    if not found:
        raise AnnotationError(
            f"{root} has no annotation file (JSON with the lists 'images' and 'annotations'); name "
            "the folder that has one."
        )
    return found


def _read(root: Path, path: Path, read: Callable[[Path], Any]) -> DataFile | None:
    name = path.relative_to(root).as_posix()
    findings: list[Finding] = []
    try:
        content = read(path)
    except NotUnicodeError as error:
        content = _from_bytes(error.content)
        kind = "unreadable file" if content is None else "not in UTF-8"
        findings.append(Finding(kind, name, note=str(error)))
    except AnnotationError as error:
        content = None
        findings.append(Finding("unreadable file", name, note=str(error)))
    if content is None:
        return DataFile(name, None, root / "images", findings)
    lists = [content.get(key) for key in ("images", "annotations")] if _is_object(content) else []
    if not lists or not all(isinstance(each, list) for each in lists):
        if not path.name.startswith(_OURS):
            return None
        note = "has no lists 'images' and 'annotations'"
        return DataFile(name, None, root / "images", [Finding("unreadable file", name, note=note)])
    return DataFile(name, content, _image_folder(root, path, content["images"]), findings)


def _is_object(content: Any) -> bool:
    return isinstance(content, dict)


def _from_bytes(data: bytes) -> Any:
    """A JSON value in the encoding of Windows, which has every letter of Latin-1."""
    try:
        return json.loads(data.decode("cp1252"))
    except ValueError:
        return None


def _image_folder(root: Path, path: Path, entries: list[Any]) -> Path:
    """The folder in which the images are: of those that tools use, the one that has most."""
    names = (e["file_name"] for e in entries if isinstance(e, Mapping) and "file_name" in e)
    few = [str(name).replace("\\", "/") for name in islice(names, _LOOKED_AT)]
    folders = [root / "images", path.parent / "images", path.parent, root]
    hits = [sum(_is_file(folder / name) for name in few) for folder in folders]
    return folders[hits.index(max(hits))]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
