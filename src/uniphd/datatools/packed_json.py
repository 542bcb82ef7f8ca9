"""A JSON file whose long lists stay in the file: of each entry, a few short fields are in memory.

An annotation with an outline and five scribbles is 2 kB of JSON and 10 kB of Python's objects.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from uniphd.data.json_file import read_json
from uniphd.datatools.json_stream import Entry, read_span, stream_entries
from uniphd.errors import AnnotationError

_GZIP = b"\x1f\x8b"
_LISTS = ("images", "annotations")
_KEPT = ("id", "image_id", "iscrowd", "category_id", "file_name", "caption")


class PackedEntry(Mapping[str, Any]):
    """An entry of a list with its short fields; whatever else is asked for is read from the file.

    Args:
        path: of the file, which must stay as it is.
        entry: of the file.
    """

    __slots__ = ("_kept", "_length", "_path", "_start")

    def __init__(self, path: Path, entry: Entry) -> None:
        self._path, self._start, self._length = path, entry.start, entry.length
        self._kept = tuple(part for n in _KEPT if n in entry.value for part in (n, entry.value[n]))

    def __getitem__(self, name: str) -> Any:
        for place in range(0, len(self._kept), 2):
            if self._kept[place] == name:
                return self._kept[place + 1]
        if name in _KEPT:
            raise KeyError(name)
        return self.read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.read())

    def __len__(self) -> int:
        return len(self.read())

    def read(self) -> dict[str, Any]:
        """The whole entry, anew.

        Raises:
            AnnotationError: the file has changed.
        """
        try:
            with self._path.open("rb") as file:
                value = json.loads(read_span(file, self._start, self._length))
        except (OSError, ValueError):
            value = None
        if not isinstance(value, dict):
            raise AnnotationError(f"{self._path} has changed while it was read; start again.")
        return value


def read_packed(path: Path) -> Any:
    """The value of a JSON file as `read_json` has it, with `PackedEntry` for entries of its lists.

    Files that are gzipped, or in another encoding than UTF-8, are read as a whole.

    Raises:
        AnnotationError: see `read_json`.
    """
    content: dict[str, Any] = {}
    try:
        if _is_gzip(path):
            return read_json(path)
        for entry in stream_entries(path, _LISTS):
            if entry.name not in _LISTS:
                content[entry.name] = entry.value
                continue
            packed = isinstance(entry.value, dict)
            value = PackedEntry(path, entry) if packed else entry.value
            content.setdefault(entry.name, []).append(value)
    except (AnnotationError, OSError):
        return read_json(path)  # which says what is wrong, or reads other encodings
    return content if all(name in content for name in _LISTS) else read_json(path)


def unpacked(content: Mapping[str, Any]) -> dict[str, Any]:
    """A file's value as plain lists and dictionaries, which may be changed."""
    lists = {name: [whole(entry) for entry in content[name]] for name in _LISTS}
    return copy.deepcopy({**content, **lists})


def whole(entry: Any) -> Any:
    """An entry of a list with all of its fields."""
    return entry.read() if isinstance(entry, PackedEntry) else entry


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP
