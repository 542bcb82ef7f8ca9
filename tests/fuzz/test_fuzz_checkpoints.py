"""Checkpoint files with any bytes in them, and any pickles: what was saved, or a sentence."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.cases import ends_well, share
from uniphd.checkpoints.pickled import read_pickle_safely

pytestmark = pytest.mark.filterwarnings("ignore")

CONTENT = {"model": {"a": torch.arange(3.0), "b": torch.ones(2, 2)}, "step": 3}
# What a pickle is made of: names, calls, containers, numbers, and what remembers them.
OPERATIONS = [
    *(b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nSize\n"),
    *(b"ctorch\nFloatStorage\n", b"ctorch.nn.parameter\nParameter\n", b"c__builtin__\nset\n"),
    *(b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\nscalar\n", b"cpathlib\nPosixPath\n"),
    *(b"cargparse\nNamespace\n", b"c_codecs\nencode\n", b"ccollections\ndefaultdict\n"),
    *(b"X\7\0\0\0storage", b"X\1\0\0\0000", b"X\3\0\0\0cpu", b"K\0", b"K\3", b"J\xff\xff\xff\x7f"),
    *(b"(", b")", b"}", b"]", b"t", b"\x85", b"\x86", b"\x87", b"R", b"\x81", b"b", b"Q"),
    *(b"s", b"u", b"a", b"e", b"N", b"\x88", b"q\1", b"h\1", b"q\2", b"h\2", b"."),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "model.pth"


@cache
def saved(new: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(CONTENT, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


@given(st.booleans(), st.data())
@share(0.1)
def test_damaged_files(path: Path, new: bool, data: st.DataObject) -> None:
    raw = bytearray(saved(new))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        if data.draw(st.booleans()):
            raw[place] = data.draw(st.integers(0, 255))
        else:
            raw[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path.write_bytes(raw)
    with ends_well(str(path)):
        read = read_pickle_safely(path)
        if new and "model" in read:  # older files have no checksums
            assert read["model"]["a"].tolist() == [0, 1, 2]


@given(st.lists(st.sampled_from(OPERATIONS), max_size=40))
@share(0.1)
def test_any_pickle(path: Path, operations: list[bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(saved(True))) as whole, zipfile.ZipFile(path, "w") as made:
        for name in whole.namelist():
            pickled = b"\x80\2}X\5\0\0\0model" + b"".join(operations) + b"s."
            made.writestr(name, pickled if name.endswith("data.pkl") else whole.read(name))
    with ends_well(str(path)):
        read_pickle_safely(path)
