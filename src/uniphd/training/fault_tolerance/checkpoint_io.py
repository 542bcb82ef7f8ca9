"""Checkpoint files that survive a kill, and falling back to the previous one."""

from __future__ import annotations

from os import SEEK_END
from pathlib import Path
from typing import IO, Any, cast
from zipfile import BadZipFile, ZipFile

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from uniphd.checkpoints.checksum import ChecksumWriter, require_whole
from uniphd.errors import CheckpointError
from uniphd.training.fault_tolerance.files import replacing

_END = b"PK\x05\x06"  # begins the last record of a zip archive
_END_SIZE = 22


class DurableCheckpointIO(TorchCheckpointIO):
    """Replaces checkpoints atomically.

    The previous `last.ckpt` is kept as `previous.ckpt` and used, with a warning, if `last.ckpt` is
    corrupt. A checksum over the whole file is compared before the file is opened.

    Lightning writes to the system's temporary folder and moves the file from there. If that is
    another disk, the move is a copy, and a kill or a power failure leaves part of a checkpoint.
    """

    def __init__(self) -> None:
        self._damaged: set[Path] = set()
        self._read_ahead: dict[Path, dict[str, Any]] = {}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: None = None
    ) -> None:
        """Replace a checkpoint, or leave it as it is.

        Raises:
            StorageError: the disk is full, or the folder cannot be written to.
        """
        path = Path(path)
        keep = None if path in self._damaged else previous_of(path)
        with replacing(path, keep) as file:
            writer = ChecksumWriter(file)
            try:
                torch.save(checkpoint, cast(IO[bytes], writer))
            except RuntimeError as error:  # in which torch hides what the file said
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
            writer.finish()
        self._damaged.discard(path)

    def read_ahead(self, path: str | Path) -> dict[str, Any]:
        """Read a checkpoint that `load_checkpoint` hands out later, without reading it again."""
        self._read_ahead[Path(path)] = content = self.load_checkpoint(path)
        return content

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint; where it is damaged, the one it replaced, with a warning.

        Raises:
            CheckpointError: there is no file that is whole.
        """
        path = Path(path)
        if (content := self._read_ahead.pop(path, None)) is not None:
            return content
        problems: list[str] = []
        for candidate in (path, previous_of(path)):
            if candidate is None or not candidate.exists():
                continue
            try:
                content = _read(candidate, map_location, weights_only)
            except CheckpointError as error:
                self._damaged.add(candidate)
                problems.append(str(error))
                continue
            if problems:
                rank_zero_warn(f"{problems[0]} Training goes on from {candidate}, the one before.")
            return content
        if not problems:
            raise CheckpointError(f"There is no checkpoint file {path}.")
        raise CheckpointError(f"{' '.join(problems)} Give another ckpt_path, or train anew.")


def previous_of(path: Path) -> Path | None:
    """Where the checkpoint is that `path` replaced: kept of `last.ckpt` alone."""
    return path.with_name("previous.ckpt") if path.name == "last.ckpt" else None


def _read(path: Path, map_location: Any, weights_only: bool | None) -> dict[str, Any]:
    """The content of a file that is as it was written.

    Raises:
        CheckpointError: the file is damaged or not a checkpoint.
    """
    try:
        if require_whole(path) is None:
            _check_parts(path)
        content: dict[str, Any] = torch.load(
            path, map_location=map_location, weights_only=weights_only
        )
    except CheckpointError:
        raise
    except Exception as error:  # readers of damaged files raise nearly anything
        reason = (str(error) or type(error).__name__).split("\n", 1)[0].rstrip(".")
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {reason}.") from error
    return content


def _check_parts(path: Path) -> None:
    """Check the parts of a file without a checksum of its own; `torch.load` looks at none.

    Raises:
        BadZipFile: a part is damaged, or something follows the archive's end.
    """
    with ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise BadZipFile(f"the checksum of its part {damaged} is wrong")
    with path.open("rb") as file:
        file.seek(-_END_SIZE, SEEK_END)
        if not file.read().startswith(_END):  # such as a damaged checksum
            raise BadZipFile("its end is not that of an archive")
