"""The image files of a data set: where they are, whether they can be read, which are the same."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import unquote

from uniphd.data.images import ImageFacts, image_path, inspect_image, size_flaw
from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.records import Record
from uniphd.errors import ImageError

_AT_ONCE = 1000  # images

ImageKey: TypeAlias = tuple[Path, str]
"""The image folder, and a `file_name` in it."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image of a data set.

    Attributes:
        name: where it is in the image folder, with `/`; perhaps not where the annotations say.
        kind: how that differs, or what is wrong with the file; empty where nothing is.
        note: more about it.
        facts: None where it cannot be read.
        digest: of its bytes.
    """

    name: str
    kind: str = ""
    note: str = ""
    facts: ImageFacts | None = None
    digest: str = ""


Images: TypeAlias = Mapping[ImageKey, ImageFile]


@dataclass
class _Folder:
    """An image folder, and what there is in it under other names."""

    path: Path
    linked: Sequence[Path] = ()

    @cached_property
    def _names(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.path).as_posix())
            for path in self.path.rglob("*")
            if path.is_file()
        )

    @cached_property
    def _by_form(self) -> dict[str, str]:
        return {unicodedata.normalize("NFC", name): name for name in self._names}

    @cached_property
    def _by_case(self) -> dict[str, list[str]]:
        return _grouped(self._names, lambda name: unicodedata.normalize("NFC", name).casefold())

    @cached_property
    def _by_last_part(self) -> dict[str, list[str]]:
        return _grouped(self._names, lambda name: PurePosixPath(name).name)

    def look_up(self, name: str) -> tuple[str, str]:
        """The name of an image that is not where it should be, and how that differs."""
        form = unicodedata.normalize("NFC", name)
        if form in self._by_form:
            return self._by_form[form], "file name in another Unicode form"
        same_but_case = self._by_case.get(form.casefold(), [])
        if len(same_but_case) == 1:
            return same_but_case[0], "file name in another letter case"
        last = PurePosixPath(name).name
        for part in (last, unquote(last)):
            elsewhere = self._by_last_part.get(part, [])
            if len(elsewhere) == 1:
                return elsewhere[0], "image in another folder"
        return name, "missing image"


def look_at_images(
    keys: Iterable[ImageKey],
    workers: int,
    advance: Callable[[], None],
    linked_folders: Sequence[Path] = (),
) -> dict[ImageKey, ImageFile]:
    """Find and decode images, each once.

    Args:
        keys: image folders and names.
        workers: threads.
        advance: called after each image.
        linked_folders: folders elsewhere into which links may lead.
    """
    wanted = list(dict.fromkeys(keys))
    folders = {folder: _Folder(folder, linked_folders) for folder, _ in wanted}

    def look(key: ImageKey) -> ImageFile:
        found = _look(folders[key[0]], key[1])
        advance()
        return found

    for folder, name in wanted:  # listed once, not by every thread
        if not (folder / name).is_file():
            folders[folder].look_up(name)
    with ThreadPoolExecutor(workers) as pool:
        found: dict[ImageKey, ImageFile] = {}
        for start in range(0, len(wanted), _AT_ONCE):  # what waits takes memory
            some = wanted[start : start + _AT_ONCE]
            found.update(zip(some, pool.map(look, some), strict=True))
        return found


def image_findings(record: Record, file: str, image: ImageFile) -> Iterator[Finding]:
    """What is wrong with the image of a person, and with the size that its entry states."""
    pair = record.pair
    if image.kind:
        value = str(pair.image.get("file_name"))
        yield pair.finding(image.kind, file, field="file_name", value=value, note=image.note)
    if image.facts is None or record.size is None:
        return
    flaw = size_flaw(Path(image.name), image.facts, record.size)
    if flaw is not None:
        stated = f"{record.size[1]} x {record.size[0]}"
        value = stated if flaw.kind != "EXIF orientation" else str(image.facts.orientation)
        yield pair.finding(flaw.kind, file, field="height", value=value, note=flaw.message)


def copies(images: Images) -> Iterator[tuple[ImageKey, ImageKey]]:
    """Names whose bytes are those of an earlier name of the same folder, and that name."""
    seen: dict[Any, ImageKey] = {}
    for key in sorted(images, key=lambda key: (str(key[0]), key[1])):
        image = images[key]
        first = seen.setdefault((key[0], image.digest), key)
        if image.digest and first != key and images[first].name != image.name:
            yield key, first


def _look(folder: _Folder, name: str) -> ImageFile:
    kind = ""
    if not (folder.path / name).is_file():
        name, kind = folder.look_up(name)
    if kind == "missing image":
        return ImageFile(name, kind, f"{folder.path} has no such file")
    try:
        path = folder.path / name
        facts = inspect_image(path)
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except (ImageError, OSError) as error:
        return ImageFile(name, "unreadable image", str(error))
    note = f"is {name} in the folder" if kind else ""
    try:
        image_path(folder.path, name, folder.linked)
    except ImageError as error:
        kind, note = kind or "link out of the folder", note or str(error)
    return ImageFile(name, kind, note, facts, digest)


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return groups
