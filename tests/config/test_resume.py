"""Which checkpoints a training goes on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from uniphd.config.resume import read_to_resume
from uniphd.errors import CheckpointError
from uniphd.training.fault_tolerance.checkpoint_io import DurableCheckpointIO


def content(module: nn.Module) -> dict[str, Any]:
    state = {"state_dict": module.state_dict(), "global_step": 3}
    return {**state, "optimizer_states": [], "lr_schedulers": [], "pytorch-lightning_version": "2"}


def read(folder: Path, stored: Any, module: nn.Module) -> dict[str, Any]:
    torch.save(stored, folder / "last.ckpt")
    return read_to_resume(str(folder / "last.ckpt"), DurableCheckpointIO(), module)


def test_a_checkpoint_of_the_same_network_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, content(nn.Linear(2, 3)), nn.Linear(2, 3))["global_step"] == 3


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (nn.Linear(2, 4), r"2 entries of another shape \(bias \(3,\) instead of \(4,\)"),
        (nn.Linear(2, 3, bias=False), r"1 entry left over \(bias\)"),
    ],
)
def test_of_another_network_it_is_one_sentence(tmp_path: Path, other: nn.Module, says: str) -> None:
    with pytest.raises(CheckpointError, match=rf"last\.ckpt is of another network .*{says}"):
        read(tmp_path, content(nn.Linear(2, 3)), other)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda stored: [stored],
        lambda stored: torch.ones(3),
        lambda stored: stored["state_dict"],
        lambda stored: {k: v for k, v in stored.items() if k != "optimizer_states"},
    ],
)
def test_of_something_else_it_is_one_sentence(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], Any]
) -> None:
    module = nn.Linear(2, 3)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is not a checkpoint of uniphd-train"):
        read(tmp_path, spoil(content(module)), module)
