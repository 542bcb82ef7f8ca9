"""Reads the local files of a W&B run, which exist both online and offline.

A `.wandb` file has a header of 7 bytes and then LevelDB's log format: blocks of 32 KiB, in them
records of a checksum (4 bytes), a length (2), a kind (1) and the content. A record that does not
fit into a block goes on in the next ones. The contents are protocol buffers. W&B has no reader in
Python.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import Record

_HEADER = 7
_BLOCK = 32 * 1024
_ENTRY = struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4  # kinds of records, and of the first and last part of one


def last_step(folder: Path, run_id: str) -> int | None:
    """The last step in a run's history, over all starts of the run.

    Args:
        folder: the `save_dir` of its logger.
        run_id: the run's id.

    Returns:
        The step; None if the run has no file or no history in its files.
    """
    paths = folder.glob(f"wandb/*run-*-{run_id}/run-{run_id}.wandb")
    return max((step for path in paths for step in _steps(path)), default=None)


def read_records(path: Path) -> Iterator[Record]:
    """The records of one file, without one that was cut off when its process died."""
    data = path.read_bytes()
    content, position = b"", _HEADER
    while position + _ENTRY.size <= len(data):
        room = _BLOCK - position % _BLOCK
        if room < _ENTRY.size:
            position += room
            continue
        _, length, kind = _ENTRY.unpack_from(data, position)
        start = position + _ENTRY.size
        if not _FULL <= kind <= _LAST or start + length > len(data):
            return
        position = start + length
        content = (b"" if kind in (_FULL, _FIRST) else content) + data[start:position]
        if kind in (_FULL, _LAST):
            try:
                yield Record.FromString(content)
            except DecodeError:
                return


def _steps(path: Path) -> Iterator[int]:
    for record in read_records(path):
        if record.WhichOneof("record_type") == "history":
            yield record.history.step.num
