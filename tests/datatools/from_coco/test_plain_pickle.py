"""Pickles of plain values are read as Python reads them; everything else is refused unread."""

from __future__ import annotations

import copyreg
import os
import pickle
import resource
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uniphd.datatools.from_coco import plain_pickle
from uniphd.datatools.from_coco.plain_pickle import read_plain_pickle
from uniphd.errors import AnnotationError

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: (
        st.lists(values)
        | st.dictionaries(st.text() | st.integers(), values)
        | st.lists(values).map(tuple)
    ),
)


@given(plain, st.integers(0, pickle.HIGHEST_PROTOCOL))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
def test_plain_values_are_read(tmp_path: Path, value: Any, protocol: int) -> None:
    path = tmp_path / "values.p"
    path.write_bytes(pickle.dumps(value, protocol))
    assert read_plain_pickle(path) == value


def test_strings_of_python_2_are_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(b"(lp0\n(dp1\nS'caf\\xe9'\np2\nI7\nsa.")
    assert read_plain_pickle(path) == [{"caf\xe9": 7}]
    path.write_bytes(b"\x80\x02]q\x00}q\x01U\x04caf\xe9q\x02K\x07sa.")
    assert read_plain_pickle(path) == [{"caf\xe9": 7}]


class Calls:
    """Pickled, it calls whatever it is given."""

    def __init__(self, *what: Any) -> None:
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what


def filled() -> bytes:
    """BUILD on a plain dictionary."""
    return b"\x80\x02}}X\x01\x00\x00\x00aK\x01sb."


def extension(number: int) -> bytes:
    return b"\x80\x02\x82" + bytes([number]) + b")R."


def shelled(protocol: int) -> Callable[[Path], bytes]:
    return lambda witness: pickle.dumps(Calls(os.system, (f"touch {witness}",)), protocol)


def evaluated(witness: Path) -> bytes:
    return pickle.dumps(Calls(eval, (f"open({str(witness)!r}, 'w')",)))


def inside_of_a_reference(witness: Path) -> bytes:
    return pickle.dumps([{"ann_id": 7, "sentences": [Calls(eval, (f"open({str(witness)!r})",))]}])


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    **{f"os.system, protocol {n}": shelled(n) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
    "builtins.eval": evaluated,
    "eval inside of a reference": inside_of_a_reference,
    "INST": lambda witness: b"(S'touch %s'\nios\nsystem\n." % str(witness).encode(),
    "OBJ": lambda witness: b"(cos\nsystem\nS'touch %s'\no." % str(witness).encode(),
    "GLOBAL alone": lambda witness: b"cos\nsystem\n.",
    "STACK_GLOBAL": lambda witness: b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "NEWOBJ": lambda witness: pickle.dumps(OrderedDict(a=1), 2),
    "REDUCE of a text": lambda witness: b"X\x01\x00\x00\x00a)R.",
    "BUILD": lambda witness: filled(),
    "EXT1": lambda witness: extension(240),
    "PERSID": lambda witness: b"Pabc\n.",
    "BINPERSID": lambda witness: b"K\x01Q.",
    "BYTEARRAY8 of a terabyte": lambda witness: b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
    "BINUNICODE8 of a terabyte": lambda w: b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"a.",
    "LONG4 without bytes": lambda witness: b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "LONG_BINPUT at the end of the memo": lambda w: b"\x80\x02Nr\xff\xff\xff\xff0h\x01.",
    "a number of a million digits": lambda witness: b"I" + b"9" * 10**6 + b"\n.",
    "tuples in tuples as a key": lambda w: b"\x80\x02})" + b"\x85" * 10**5 + b"K\x01s.",
    "the same in SETITEMS": lambda w: b"\x80\x02}()" + b"\x85" * 10**5 + b"K\x01u.",
    "the same in DICT": lambda w: b"\x80\x02()" + b"\x85" * 10**5 + b"K\x01d.",
    "empty": lambda witness: b"",
    "cut off": lambda witness: pickle.dumps(["a" * 100])[:40],
    "text": lambda witness: b"hello, world\n",
    "no stack": lambda witness: b"a.",
    "APPEND to a number": lambda witness: b"K\x01K\x02a.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    witness, path = tmp_path / "witness", tmp_path / "refs(unc).p"
    path.write_bytes(HOSTILE[name](witness))
    copyreg.add_extension("os", "getpid", 240)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        pickle.loads(extension(240))  # the C reader now has it in its cache
        with pytest.raises(AnnotationError) as caught:
            read_plain_pickle(path)
    finally:
        copyreg.remove_extension("os", "getpid", 240)
        copyreg.clear_extension_cache()
    assert not witness.exists()
    assert str(caught.value).isprintable()
    assert "refs(unc).p" in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # kilobytes


@pytest.mark.parametrize("instruction", [b"]", b"(", b")", b"}"])
def test_containers_are_counted(
    instruction: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_pickle, "_MOST_CONTAINERS", 1000)
    path = tmp_path / "refs.p"
    path.write_bytes(b"\x80\x02" + instruction * 1001 + b".")
    with pytest.raises(AnnotationError, match="it has more than 1,000 lists"):
        read_plain_pickle(path)


@pytest.mark.slow
def test_a_file_of_lists_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(b"\x80\x02" + b"]" * 100_000_000 + b".")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AnnotationError, match="it has more than 3,000,000 lists"):
        read_plain_pickle(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 900 * 1024  # kilobytes


def test_lengths_that_lie_take_nothing(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.")
    assert read_plain_pickle(path) is None  # the frame's length is only a hint


def test_the_instruction_is_named(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps(Calls(os.getpid, ()), 2))
    with pytest.raises(AnnotationError, match=r"the pickle instruction GLOBAL\), which could run"):
        read_plain_pickle(path)


def test_recursion_is_read_without_recursion(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    itself: list[Any] = []
    itself.append(itself)
    path.write_bytes(pickle.dumps(itself))
    read = read_plain_pickle(path)
    assert read[0] is read
    path.write_bytes(b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".")
    assert len(read_plain_pickle(path)) == 1


def test_a_file_too_large_for_expressions_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(AnnotationError, match="has more than 256 MiB"):
        read_plain_pickle(path)
