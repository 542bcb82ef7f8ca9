"""The zip archive that `torch.save` writes, read so strictly that all readers see the same in it.

Readers of zip archives find their table of contents in different ways. An archive with two tables
has one content for Python and another for PyTorch, so that checking the one says nothing about the
other.
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from uniphd.errors import CheckpointError

_FIRST = b"PK\x03\x04"  # begins a file that torch.load takes for an archive
_END = struct.Struct("<4s4H2IH")  # the last record: where the table of contents is
_END64 = struct.Struct("<4sQ2H2I4Q")  # the same for large archives, before it,
_LOCATOR64 = struct.Struct("<4sIQI")  # and where that is
_NAME = re.compile(r"[\w./-]+", re.ASCII)
_PICKLE = "data.pkl"
_ENCRYPTED = 1  # flag
_LARGE = 1 << 32


@dataclass(frozen=True)
class Archive:
    """What is in a `torch.save` archive.

    Attributes:
        pickle: the pickle that says which tensors there are.
        storages: bytes of every storage, by its key in the pickle.
    """

    pickle: bytes
    storages: Mapping[str, int]


def is_archive(path: Path) -> bool:
    """Whether `torch.load` takes the file for a zip archive; by its first bytes, as it does."""
    with path.open("rb") as file:
        return file.read(len(_FIRST)) == _FIRST


def read_archive(path: Path, compared: int | None, largest_pickle: int) -> Archive:
    """Read the table of contents and the pickle.

    Args:
        path: of the file.
        compared: bytes that the checksum behind them was compared with; None without one, where the
            archive's own checksums are compared.
        largest_pickle: bytes.

    Raises:
        CheckpointError: the archive is not as `torch.save` writes it: it has more than one table of
            contents, is compressed, or holds an entry twice or outside of its folder; or a byte of
            it has changed.
    """
    end = path.stat().st_size if compared is None else compared
    with path.open("rb") as file:
        count = _count_entries(file, end)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) != count:
            raise _refusal(path, "its table of contents is not where it must be")
        folder = entries[0].filename.partition("/")[0] + "/" if entries else ""
        _require_plain(path, end, folder, entries)
        if compared is None and (damaged := archive.testzip()) is not None:
            raise CheckpointError(f"{path} is damaged: the checksum of its {damaged} is wrong.")
        sizes = {entry.filename.removeprefix(folder): entry.file_size for entry in entries}
        if not 0 < sizes.get(_PICKLE, 0) <= largest_pickle:
            raise _refusal(path, f"its {_PICKLE} is missing or larger than any list of weights")
        storages = {
            name.removeprefix("data/"): size
            for name, size in sizes.items()
            if name.startswith("data/")
        }
        return Archive(archive.read(folder + _PICKLE), storages)


def _count_entries(file: BinaryIO, end: int) -> int | None:
    """How many entries the table of contents has; None unless it ends where its records begin."""
    file.seek(max(end - _LOCATOR64.size - _END64.size - _END.size, 0))
    rest = file.read()
    file.seek(max(end - _END.size, 0))
    tail = file.read()
    if len(tail) < _END.size or tail.rfind(b"PK\x05\x06") != 0:
        return None
    _, _, _, here, total, size, offset, comment = _END.unpack_from(tail)
    record = end - _END.size
    if rest[_END64.size :].startswith(b"PK\x06\x07"):
        _, disk, place, disks = _LOCATOR64.unpack_from(rest, _END64.size)
        record = end - _END.size - _LOCATOR64.size - _END64.size
        if (disk, place, disks) != (0, record, 1):
            return None
        mark, length, *_, here64, total64, size64, offset64 = _END64.unpack_from(rest)
        given = ((here, here64), (total, total64), (size, size64), (offset, offset64))
        if (mark, length) != (b"PK\x06\x06", _END64.size - 12):
            return None
        if any(small not in (large, 0xFFFF, 0xFFFFFFFF) for small, large in given):
            return None
        here, total, size, offset = here64, total64, size64, offset64
    fits = here == total and comment == 0 and offset + size == record
    return int(total) if fits else None


def _require_plain(path: Path, end: int, folder: str, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse entries that could be larger than the file, or other ones for another reader."""
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > end
    ):
        raise CheckpointError(
            f"{path} is a compressed archive, which may grow without limit when it is read; "
            "give a file as torch.save writes it."
        )
    names = [entry.orig_filename for entry in entries]
    # PyTorch does not tell upper and lower case apart.
    if len({name.lower() for name in names}) < len(names):
        raise _refusal(path, "it has an entry twice")
    if not all(_NAME.fullmatch(name) and name.startswith(folder) for name in names):
        raise _refusal(path, "it has an entry outside of its folder")
    if any(
        entry.file_size != entry.compress_size
        or entry.flag_bits & _ENCRYPTED
        or (entry.extra and end < _LARGE)  # in which sizes may be said once more
        for entry in entries
    ):
        raise _refusal(path, "it has an entry that is not stored as it is")


def _refusal(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not an archive as torch.save writes it: {why}. Copy it again, or save it anew."
    )
