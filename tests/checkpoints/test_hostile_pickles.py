"""Archives and pickles that would take more memory than they have bytes, or crash their reader."""

from __future__ import annotations

import datetime
import io
import pickle
import resource
import struct
import types
import uuid
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from uniphd.checkpoints.pickled import read_pickle_safely
from uniphd.errors import CheckpointError

_END = 22
_TABLE = b"PK\x01\x02"


def good(path: Path) -> dict[str, bytes]:
    """A sound archive; its entries by name."""
    torch.save({"model": OrderedDict(a=torch.arange(3.0)), "step": 3}, path)
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def write(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def with_pickle(path: Path, content: bytes) -> None:
    """An archive whose pickle is given."""
    entries = good(path)
    write(path, {name: content if "pkl" in name else old for name, old in entries.items()})


def refused(path: Path, says: str) -> None:
    """Reading ends in one printable sentence, and takes no memory worth speaking of."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=says) as caught:
        read_pickle_safely(path)
    assert str(caught.value).isprintable()
    assert str(path) in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pth"


def test_the_file_that_is_spoilt_below_is_good(path: Path) -> None:
    entries = good(path)
    assert read_pickle_safely(path)["model"]["a"].tolist() == [0, 1, 2]
    write(path, entries)  # by another program
    assert read_pickle_safely(path)["model"]["a"].tolist() == [0, 1, 2]


def two_tables(path: Path) -> None:
    """Python takes the table before the end, PyTorch the one at the place that the end says."""
    entries = good(path)
    write(path, entries)
    small = path.read_bytes()
    write(path, {**entries, "model/data/0": b"\0" * 10**6}, zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    table = small[small.index(_TABLE) : -_END]
    path.write_bytes(content[:-_END] + table + content[-_END:])


def a_table_at_another_place(path: Path) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, len(content) - 6, 0)
    path.write_bytes(content)


def a_comment(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK\x05\x06 is where another archive ends" * 10


def bytes_before(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + path.read_bytes())


def bytes_behind(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def another_end(path: Path) -> None:
    """Two ends: that of the file counts for one reader, the first one for another."""
    content = path.read_bytes()
    path.write_bytes(content + content[-_END:])


def packed(path: Path) -> None:
    write(path, good(path), zipfile.ZIP_DEFLATED)


def in_two_cases(path: Path) -> None:
    write(path, {**good(path), "model/DATA.PKL": b""})


def in_another_folder(path: Path) -> None:
    write(path, {**good(path), "other/data.pkl": b""})


def with_a_zero_in_a_name(path: Path) -> None:
    write(path, {**good(path), "model/data/1x": b""})
    path.write_bytes(path.read_bytes().replace(b"model/data/1x", b"model/data/1\0"))


def with_sizes_in_extra_fields(path: Path) -> None:
    entries = good(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.extra = struct.pack("<2HQ", 1, 8, 2**40)
            archive.writestr(entry, content)


def without_a_pickle(path: Path) -> None:
    write(path, {name: content for name, content in good(path).items() if "pkl" not in name})


def empty(path: Path) -> None:
    write(path, {})


@pytest.mark.parametrize(
    "spoil",
    [
        *(two_tables, a_table_at_another_place, a_comment, bytes_before, bytes_behind, another_end),
        *(packed, in_two_cases, in_another_folder, with_a_zero_in_a_name),
        *(with_sizes_in_extra_fields, without_a_pickle, empty),
    ],
)
def test_archives_that_readers_understand_differently(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    good(path)
    spoil(path)
    refused(path, "not an archive as torch.save writes it|compressed|not a readable|was not loaded")


def test_a_changed_weight_in_a_file_of_another_program(path: Path) -> None:
    good(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(torch.arange(3.0).numpy().tobytes(), b"\1" * 12))
    refused(path, "is damaged: the checksum of its model/data/0 is wrong")


def test_large_archives_have_two_ends(path: Path) -> None:
    good(path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, len(content) - 50, 0)  # of the table, in the record before
    path.write_bytes(content)
    refused(path, "table of contents")


ODD = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse_csr": lambda: torch.eye(3).to_sparse_csr(),
    "meta": lambda: torch.empty(10**10, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "float8": lambda: torch.ones(3).to(torch.float8_e4m3fn),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", ODD)
def test_tensors_that_are_not_plain(path: Path, kind: str, old: bool) -> None:
    content = {"model": {"a": ODD[kind](), "b": torch.ones(3)}}
    try:
        torch.save(content, path, _use_new_zipfile_serialization=not old)
    except (RuntimeError, NotImplementedError):
        pytest.skip("cannot be saved")
    refused(path, "tensor; only plain ones are read|storage that is not plain|more than data")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "view",
    [
        lambda: torch.zeros(1).expand(8, 10**9),
        lambda: torch.zeros(3, 1).expand(3, 4),
        lambda: torch.zeros(10).as_strided((5, 5), (1, 1)),
    ],
)
def test_tensors_larger_than_what_is_stored(path: Path, view: Any, old: bool) -> None:
    torch.save({"model": {"a": view()}}, path, _use_new_zipfile_serialization=not old)
    refused(path, "are stored, so that a small file could fill any memory")


def tensor(key: bytes = b"X\1\0\0\0000", count: int = 3, size: int = 3, stride: int = 1) -> bytes:
    """Operations that make a tensor."""
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\n" + key + b"X\3\0\0\0cpu" + whole(count)
    view = whole(0) + whole(size) + b"\x85" + whole(stride) + b"\x85\x89N"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"tQ" + view + b"tR"


def whole(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def key(text: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text


def entry(name: bytes, value: bytes) -> bytes:
    return key(name) + value + b"s"


START = b"\x80\x02}"
PROGRAMS = {
    "bytearray": b"c__builtin__\nbytearray\n" + whole(2**31 - 1) + b"\x85R",
    "tensor by size": b"ctorch\nTensor\n" + whole(2**31 - 1) + b"\x85R",
    "storage by size": b"ctorch.storage\nUntypedStorage\n" + whole(2**31 - 1) + b"\x85R",
    "larger storage": tensor(count=2**30),
    "larger view": tensor(size=10**9, stride=0),
    "view outside": tensor(size=3, stride=9),
    "negative stride": tensor(stride=-1),
    "negative size": tensor(size=-3),
    "no such storage": tensor(key=b"X\1\0\0\0009"),
    "storage by a number": tensor(key=b"K\0"),
    "deep tuples": b")" + b"\x85" * 10**5,
    "tuples as a key": b"}" + b")" + b"q\1h\1\x86" * 60 + b"K\1s",
    "text again and again": key(b"a" * 10**4)
    + b"q\1"
    + b"(c_codecs\nencode\nh\1X\5\0\0\0latin1\x86R" * 100
    + b"t",
    "sets again and again": b"]("
    + b"K\1" * 10**4
    + b"eq\1("
    + b"c__builtin__\nset\nh\1\x85R" * 200
    + b"l",
    "another encoding": b"c_codecs\nencode\nX\1\0\0\0aX\4\0\0\0idna\x86R",
    "changed tensor": tensor() + b"}b",
    "an operation of later pickles": b"\x96" + struct.pack("<Q", 2**40),
    "a call of a number": b"K\1)R",
    "a call of a dtype": b"ctorch\nfloat32\n)R",
    "eval": b"c__builtin__\neval\nX\1\0\0\0001\x85R",
    "nothing on the stack": b"R",
    "nothing marked": b"t",
    "nothing remembered": b"h\7",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_pickles_that_do_more_than_they_should(path: Path, name: str) -> None:
    with_pickle(path, START + entry(b"model", PROGRAMS[name]) + b".")
    refused(path, "was not loaded|not a readable checkpoint")


def test_the_pickles_above_are_well_formed(path: Path) -> None:
    with_pickle(path, START + entry(b"model", tensor()) + b".")
    assert read_pickle_safely(path)["model"].tolist() == [0, 1, 2]


def test_paths_that_double(path: Path) -> None:
    join = b"q\1cpathlib\nPosixPath\nh\1h\1\x86R"
    with_pickle(path, START + entry(b"model", key(b"a" * 100) + join * 50) + b".")
    refused(path, "copies its contents again and again")


def test_a_storage_under_many_names(path: Path) -> None:
    """PyTorch finds the same record under names in upper and lower case."""
    entries = {**good(path), "model/data/aaaa": b"\0" * 12}
    names = [b"aaaa", b"aaaA", b"aaAa", b"aAaa"]
    program = b"".join(entry(name, tensor(key=key(name))) for name in names)
    entries["model/data.pkl"] = START + program + b"."
    write(path, entries)
    refused(path, "larger storages than it holds")


def test_old_files_say_the_sizes_themselves(path: Path) -> None:
    torch.save({"model": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert read_pickle_safely(path)["model"].tolist() == [1, 1, 1]
    content = path.read_bytes()
    path.write_bytes(content.replace(b"K\3Nt", b"J\xff\xff\xff\x7fNt"))
    refused(path, "larger storages than it holds")


def test_what_is_an_archive_for_python_alone(path: Path) -> None:
    """PyTorch looks at the first bytes."""
    good(path)
    hostile = io.BytesIO()
    pickle.dump(print, hostile, protocol=2)
    path.write_bytes(hostile.getvalue() + path.read_bytes())
    refused(path, "it holds print, which is more than data")


def test_a_pickle_larger_than_any_list_of_weights(path: Path) -> None:
    with_pickle(path, START + b"N0" * (1 << 23) + b".")
    refused(path, "larger than any list of weights")


def test_harmless_values_beside_the_weights(path: Path) -> None:
    beside = {
        "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        "day": datetime.date(2026, 1, 1),
        "took": datetime.timedelta(hours=1),
        "id": uuid.uuid4(),
        "options": OmegaConf.create({"a": [1, 2.0, "b", None, True], "c": {"d": 1}}),
        "plain": types.SimpleNamespace(a=1),
        "shape": torch.Size([1, 2]),
        "kind": torch.float16,
        "where": torch.device("cuda", 1),
        "names": {"a", "b"},
        "bytes": b"abc",
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    torch.save({"weights": torch.ones(2), **beside}, path)
    read = read_pickle_safely(path)
    assert read["weights"].tolist() == [1, 1]
    for name in ("shape", "kind", "where", "names", "bytes"):
        assert read[name] == beside[name]
