"""Data sets and tokenizers for the tests of the data layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.refhuman_folder import write_refhuman
from uniphd.data.annotations import ReferredPerson, load_annotations


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight drawn people to train on and four to validate on; a test may damage it."""
    return write_refhuman(tmp_path / "refhuman", people=8, seed=0)


@pytest.fixture
def people(folder: Path) -> tuple[ReferredPerson, ...]:
    """The drawn people to train on."""
    return load_annotations(folder / "RefHuman_train.json").instances


@pytest.fixture
def tokenize() -> Callable[[Sequence[str]], tuple[Tensor, Tensor]]:
    """The length of every word."""
    return word_lengths


def word_lengths(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    rows = [torch.tensor([len(word) for word in text.split()]) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return ids, (ids > 0).long()
