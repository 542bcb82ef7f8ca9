"""Pickles of plain values, such as the original `refs(unc).p`, read without running anything.

A pickle is a program for a small machine. This one knows only the instructions that make numbers,
texts, lists, tuples and dictionaries. It has none that names, calls or fills an object, so there is
nothing that a hostile file could call.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uniphd.errors import AnnotationError

_LARGEST_FILE = 1 << 28  # bytes; the originals have 20 to 60 MB
_MOST_CONTAINERS = 3_000_000  # lists, tuples, dictionaries and marks; RefCOCO has 0.9 million
_PYTHON_2 = "latin1"  # of its strings, which the originals have

_CONTAINERS = (
    *(pickle.EMPTY_LIST, pickle.LIST, pickle.EMPTY_DICT, pickle.MARK),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
)
_OTHERS = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.POP, pickle.POP_MARK),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.INT, pickle.BININT, pickle.BININT1),
    *(pickle.BININT2, pickle.LONG, pickle.LONG1, pickle.FLOAT, pickle.BINFLOAT, pickle.STRING),
    *(pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.UNICODE, pickle.BINUNICODE),
    *(pickle.SHORT_BINUNICODE, pickle.BINUNICODE8, pickle.APPEND, pickle.APPENDS, pickle.PUT),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.GET, pickle.BINGET),
    pickle.LONG_BINGET,
)
_KEYED = {
    pickle.SETITEM: slice(-2, None, 2),
    **dict.fromkeys((pickle.SETITEMS, pickle.DICT), slice(0, None, 2)),
}
"""Instructions that put values into dictionaries, and where on the stack their keys are."""

# Python's own reader in Python: the one in C has no table of instructions that can be shortened.
_PythonUnpickler: Any = pickle._Unpickler


class _PlainUnpickler(_PythonUnpickler):  # type: ignore[misc]
    """Knows the instructions above; for any other, `load` raises a KeyError."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False, encoding=_PYTHON_2)
        self.containers = 0

    def find_class(self, module: str, name: str) -> Any:
        """Never called: no instruction leads here."""
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _counted(make: Callable[[Any], None]) -> Callable[[_PlainUnpickler], None]:
    def make_container(reader: _PlainUnpickler) -> None:
        reader.containers += 1
        if reader.containers > _MOST_CONTAINERS:
            raise pickle.UnpicklingError(f"it has more than {_MOST_CONTAINERS:,} lists")
        make(reader)

    return make_container


def _keyed(fill: Callable[[Any], None], keys: slice) -> Callable[[_PlainUnpickler], None]:
    def fill_dictionary(reader: _PlainUnpickler) -> None:
        # The hash of tuples in tuples in tuples ... would overflow the interpreter's stack.
        if not {type(key) for key in reader.stack[keys]} <= {str, int}:
            raise pickle.UnpicklingError("it has keys that are neither texts nor integers")
        fill(reader)

    return fill_dictionary


def _instructions() -> dict[int, Callable[[Any], None]]:
    known = _PythonUnpickler.dispatch
    return {
        **{code[0]: known[code[0]] for code in _OTHERS},
        **{code[0]: _counted(known[code[0]]) for code in _CONTAINERS},
        **{code[0]: _keyed(known[code[0]], keys) for code, keys in _KEYED.items()},
    }


_PlainUnpickler.dispatch = _instructions()


def read_plain_pickle(path: Path) -> Any:
    """The value of a pickle that is made of numbers, texts, lists, tuples and dictionaries.

    Strings of Python 2 are read as Latin-1.

    Raises:
        AnnotationError: the file is damaged, too large, or holds anything else.
        OSError: it cannot be read.
    """
    if path.stat().st_size > _LARGEST_FILE:
        raise AnnotationError(
            f"{path} has more than {_LARGEST_FILE >> 20} MiB, more than any file of expressions; "
            "give another one."
        )
    try:
        return _PlainUnpickler(path.read_bytes()).load()
    except KeyError as error:
        raise AnnotationError(
            f"{path} {_refusal(error.args[0])}; give the original file."
        ) from None
    except Exception as error:  # whatever a damaged file makes the machine do
        said = str(error) or type(error).__name__
        raise AnnotationError(
            f"{path} is no pickle of plain values ({said:.100}); give the original file."
        ) from error


def _refusal(code: Any) -> str:
    """Why an instruction is not carried out."""
    names = {
        value[0]: name
        for name, value in vars(pickle).items()
        if name.isupper() and isinstance(value, bytes) and len(value) == 1
    }
    if isinstance(code, int) and code in names:
        return (
            f"holds more than plain values (the pickle instruction {names[code]}), which could run "
            "code and is not read"
        )
    return "is no pickle or is damaged"
