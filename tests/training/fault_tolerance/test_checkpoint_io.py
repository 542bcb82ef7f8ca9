"""Checkpoint files: replaced as a whole, kept when the disk is full, checked when read."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from uniphd.errors import CheckpointError, StorageError
from uniphd.training.fault_tolerance.checkpoint_io import DurableCheckpointIO

WEIGHTS = torch.arange(1000.0)


def write(path: Path, *steps: int) -> None:
    """Save several checkpoints, one after the other."""
    for step in steps:
        DurableCheckpointIO().save_checkpoint({"step": step, "weights": WEIGHTS + step}, path)


def read(path: Path) -> int:
    """The step of a checkpoint whose weights are right."""
    content = DurableCheckpointIO().load_checkpoint(path)
    torch.testing.assert_close(content["weights"], WEIGHTS + content["step"], rtol=0, atol=0)
    step: int = content["step"]
    return step


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    write(folder / "last.ckpt", 1)
    assert names(folder) == {"last.ckpt"}
    write(folder / "last.ckpt", 2, 3)
    write(folder / "best.ckpt", 1, 2)
    assert names(folder) == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    steps = {name: read(folder / name) for name in names(folder)}
    assert steps == {"last.ckpt": 3, "previous.ckpt": 2, "best.ckpt": 2}


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def nothing(content: bytes) -> bytes:
    return b""


def another_bit(content: bytes) -> bytes:
    """One bit of the weights; `torch.load` does not notice."""
    place = content.index((WEIGHTS + 2).numpy().tobytes()) + 400
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = [half, nothing, another_bit]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_noticed(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    last = tmp_path / "last.ckpt"
    write(last, 1, 2)
    last.write_bytes(damage(last.read_bytes()))
    files = DurableCheckpointIO()
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged .* from .*previous\.ckpt") as seen:
        assert files.load_checkpoint(last)["step"] == 1
    assert len(seen) == 1
    # The damaged file must not take the place of the good one.
    files.save_checkpoint({"step": 3, "weights": WEIGHTS + 3}, last)
    assert [read(tmp_path / name) for name in ("last.ckpt", "previous.ckpt")] == [3, 1]
    files.save_checkpoint({"step": 4, "weights": WEIGHTS + 4}, last)
    assert read(tmp_path / "previous.ckpt") == 3


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    files = DurableCheckpointIO()
    files.save_checkpoint({"step": 1, "weights": torch.arange(20.0)}, last)
    whole = last.read_bytes()
    assert torch.load(last, weights_only=True, mmap=True)["step"] == 1
    for place in range(len(whole)):
        changed = bytes([whole[place] ^ (0x01, 0x80, 0xFF)[place % 3]])
        last.write_bytes(whole[:place] + changed + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="is damaged"):
            files.load_checkpoint(last)
    last.write_bytes(whole)
    assert read_steps(last) == 1


def test_files_without_a_checksum_are_read(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    torch.save({"step": 1, "weights": torch.arange(20.0)}, last)
    assert read_steps(last) == 1
    whole = last.read_bytes()
    assert torch.load(last, weights_only=True)["step"] == 1
    for place in range(0, len(whole), 7):  # refused, or without effect: never another exception
        last.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with suppress(CheckpointError):
            read_steps(last)


def read_steps(path: Path) -> int:
    step: int = DurableCheckpointIO().load_checkpoint(path)["step"]
    return step


def test_torch_alone_does_not_notice_another_bit(tmp_path: Path) -> None:
    write(tmp_path / "best.ckpt", 2)
    (tmp_path / "best.ckpt").write_bytes(another_bit((tmp_path / "best.ckpt").read_bytes()))
    content = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert not torch.equal(content["weights"], WEIGHTS + 2)
    with pytest.raises(CheckpointError, match="checksum"):
        read(tmp_path / "best.ckpt")


def test_a_kill_between_the_two_renamings_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path / "last.ckpt", 1)
    (tmp_path / "last.ckpt").rename(tmp_path / "previous.ckpt")
    assert read(tmp_path / "last.ckpt") == 1


def test_without_a_good_file_the_message_names_all(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    with pytest.raises(CheckpointError, match=r"There is no checkpoint file .*last\.ckpt"):
        read(last)
    last.write_bytes(b"PK")
    (tmp_path / "previous.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged .*previous\.ckpt is damaged"):
        read(last)


def test_a_full_disk_leaves_what_there_was(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    write(last, 1, 2)
    (tmp_path / ".last.ckpt.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"last\.ckpt cannot be written: No space left"):
        write(last, 3)
    assert names(tmp_path) == {"last.ckpt", "previous.ckpt"}
    assert [read(tmp_path / name) for name in ("last.ckpt", "previous.ckpt")] == [2, 1]


def test_a_disk_that_fills_up_within_a_checkpoint(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    write(last, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match=r"last\.ckpt cannot be written"):
            DurableCheckpointIO().save_checkpoint({"weights": torch.zeros(100_000)}, last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == {"last.ckpt"}
    assert read(last) == 1
