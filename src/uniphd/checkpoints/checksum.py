"""A checksum over a whole checkpoint, in its last bytes: readers of zip archives ignore those.

It moves with the file. Files without one, of an earlier version or of other programs, are read as
before.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from uniphd.errors import CheckpointError

_MARK = b"\nuniphd-checksum:"
_SIZE = 16  # bytes of the checksum; twice as many characters in the file
_TRAILER = len(_MARK) + 2 * _SIZE
_BLOCK = 1 << 20


class ChecksumWriter:
    """Passes on what is written to a file, and adds its checksum at the end.

    Args:
        file: where the bytes go.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.blake2b(digest_size=_SIZE)

    def write(self, data: bytes) -> int:
        """Write as the file does."""
        self._digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Flush as the file does."""
        self._file.flush()

    def finish(self) -> None:
        """Write the checksum of all that was written."""
        self._file.write(_MARK + self._digest.hexdigest().encode())


def require_whole(path: Path) -> int | None:
    """Compare a file with its checksum.

    Returns:
        How many bytes the checksum is of; None where the file has none.

    Raises:
        CheckpointError: a byte of it has changed.
        OSError: it cannot be read.
    """
    length = path.stat().st_size - _TRAILER
    if length < 0:
        return None
    digest = hashlib.blake2b(digest_size=_SIZE)
    with path.open("rb") as file:
        file.seek(length)
        trailer = file.read()
        if not trailer.startswith(_MARK):
            return None
        file.seek(0)
        left = length
        while block := file.read(min(_BLOCK, left)):
            digest.update(block)
            left -= len(block)
    if trailer != _MARK + digest.hexdigest().encode():
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint: the checksum in its last bytes "
            "is wrong; copy it again, or use another."
        )
    return length
