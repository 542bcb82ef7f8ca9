"""What a torch pickle would do, found out without doing it.

A pickle is a program: it puts values on a stack, remembers some, and calls what it names. The
`Inspector` goes through its operations with stand-ins for the values. It refuses what PyTorch's own
restricted reader lets pass although it is more than plain tensors, or takes more memory than the
file has: tensors larger than their storage, storages larger than their record, containers copied
again and again, tuples nested until the interpreter crashes.
"""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch

_DEEPEST_TUPLE = 100
_LARGEST_TUPLE = 100_000  # values, with those of the tuples in it
_HANDED_ON = 4  # how often a value may pass from one call to the next
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = ("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1")
_EMPTY = ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET")
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_COPYING = {
    *("collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.complex"),
    *("torch.Size", "torch.device"),
}
_TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_PARAMETERS = (
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Parameter",
)
_ENCODE = "_codecs.encode"
_ENCODINGS = ("latin1", "ascii", "utf-8")
_SIZES = {
    f"torch.{kind}Storage": size
    for size, kinds in {
        1: ("Bool", "Byte", "Char"),
        2: ("Half", "BFloat16", "Short"),
        4: ("Float", "Int"),
        8: ("Double", "Long", "ComplexFloat"),
        16: ("ComplexDouble",),
    }.items()
    for kind in kinds
}
_KNOWN = frozenset((*_COPYING, *_TENSORS, *_PARAMETERS, _ENCODE, *_SIZES))
_KINDS = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_meta_tensor_no_storage": "empty (meta)",
    "_rebuild_qtensor": "quantized",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_wrapper_subclass": "subclassed",
    "_rebuild_from_type_v2": "subclassed",
    "_rebuild_tensor_v3": "float8 or unsigned",
}


@dataclass
class _Name:
    """A class or function that the pickle names."""

    name: str


@dataclass
class _Held:
    """A container, or an object of a stand-in, of so many values."""

    count: int = 0


@dataclass
class _Storage:
    """The numbers of tensors."""

    count: int
    item: int


class _Tensor:
    """A tensor or parameter."""


class _Nested(tuple[Any, ...]):
    """A tuple that knows how deep tuples are nested in it, and of how many values."""

    depth: int
    values: int


class Inspector:
    """Follow the pickles of one file.

    Args:
        size: bytes of the file.
        limit: bytes of its pickles.
        records: bytes of the archive's storages by key; None where the file says the sizes itself.
        harmless: further names that the reader takes.
    """

    def __init__(
        self,
        size: int,
        limit: int,
        records: Mapping[str, int] | None,
        harmless: Collection[str],
    ) -> None:
        self._size = size
        self._limit = limit
        self._records = records
        self._harmless = frozenset(harmless)
        self._stored: dict[str, int] = {}
        self._total = 0
        self._copied = 0

    def follow(self, pickle: bytes | BinaryIO) -> None:
        """Go through one pickle; a stream is left where it ends.

        Raises:
            UnpicklingError: it is more than plain tensors and values.
        """
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        for operation, argument, _ in pickletools.genops(pickle):
            self._do(operation.name, argument)

    def _do(self, operation: str, argument: Any) -> None:
        stack = self._stack
        if operation in _VALUES:
            stack.append(argument)
        elif operation in _CONSTANTS:
            stack.append(_CONSTANTS[operation])
        elif operation in _EMPTY:
            stack.append(_Held())
        elif operation in _TUPLES:
            count = _TUPLES[operation]
            stack.append(_nested([stack.pop() for _ in range(count)][::-1]))
        elif operation in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif operation in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif operation not in ("PROTO", "STOP"):
            self._work(operation, argument)

    def _work(self, operation: str, argument: Any) -> None:
        """The operations that do more than to put a value on the stack."""
        stack = self._stack
        if operation == "MARK":
            self._marked.append(stack)
            self._stack = []
        elif operation == "TUPLE":
            items = self._pop_mark()
            self._stack.append(_nested(items))
        elif operation in ("APPENDS", "SETITEMS"):
            items = self._pop_mark()
            self._grow(len(items))
        elif operation in ("APPEND", "SETITEM"):
            stack.pop()
            if operation == "SETITEM":
                stack.pop()
            self._grow(1)
        elif operation == "GLOBAL":
            stack.append(_Name(self._allowed(*argument.split(" ", 1))))
        elif operation == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif operation in ("REDUCE", "NEWOBJ"):
            arguments, called = stack.pop(), stack.pop()
            stack.append(self._call(called, arguments))
        elif operation == "BUILD":
            self._copy(stack.pop())
            if not isinstance(stack[-1], _Held):
                raise UnpicklingError("it changes what is no container")
        else:
            raise UnpicklingError(f"torch.save did not write it: it has the operation {operation}")

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _grow(self, count: int) -> None:
        if not isinstance(self._stack[-1], _Held):
            raise UnpicklingError("it adds to what is no container")
        self._stack[-1].count += count

    def _allowed(self, module: str, name: str) -> str:
        """The full name of what PyTorch would call, if that is harmless."""
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        if name in _KINDS and module.startswith("torch."):
            raise UnpicklingError(f"it holds a {_KINDS[name]} tensor; only plain ones are read")
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if full not in _KNOWN | self._harmless and not is_dtype:
            raise UnpicklingError(
                f"it holds {full.removeprefix('builtins.')}, which is more than data, and so asks "
                "for code to be executed; save the weights alone, with "
                "torch.save(network.state_dict(), FILE)"
            )
        return full

    def _storage(self, given: Any) -> _Storage:
        """What a persistent id stands for; all of them together fit into the file."""
        _, kind, key, _, count, *view = given
        if kind.name not in _SIZES or any(view) or not isinstance(count, int) or count < 0:
            raise UnpicklingError("it holds a storage that is not plain")
        storage = _Storage(count, _SIZES[kind.name])
        size = storage.count * storage.item
        if key not in self._stored:
            self._total += size
        known = self._stored.setdefault(key, size)
        record = size if self._records is None else self._records.get(key, -1)
        if self._total > self._size or not size == known <= record:
            raise UnpicklingError("it asks for larger storages than it holds")
        return storage

    def _call(self, called: Any, arguments: Any) -> Any:
        if not isinstance(called, _Name) or not isinstance(arguments, _Nested):
            raise UnpicklingError("it calls what is no function")
        if called.name in _TENSORS:
            return self._tensor(*arguments[:4])
        self._copy(arguments)
        if called.name in _PARAMETERS:
            if not isinstance(arguments[0], _Tensor):
                raise UnpicklingError("it holds a parameter that is no tensor")
            return arguments[0]
        if called.name == _ENCODE:
            if arguments[1] not in _ENCODINGS:
                raise UnpicklingError(f"it holds text in the encoding {arguments[1]!r:.40}")
            return arguments[0]
        if called.name not in _COPYING and called.name not in self._harmless:
            raise UnpicklingError(f"it calls {called.name}")
        return _Held(sum(_length(item) for item in arguments))

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> _Tensor:
        """A view of a storage that lies within it and has no number more often than it."""
        numbers = [offset, *size, *stride]
        if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in numbers):
            raise UnpicklingError("it holds a tensor that is not plain")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        elements = prod(size)
        if elements > storage.count or (elements and last >= storage.count):
            raise UnpicklingError(
                f"it holds a tensor of {elements:,} elements for which {storage.count:,} are "
                "stored, so that a small file could fill any memory; save a contiguous copy"
            )
        return _Tensor()

    def _copy(self, value: Any) -> None:
        """Count what a call copies."""
        items = value if isinstance(value, tuple) else (value,)
        self._copied += sum(_length(item) for item in items)
        if self._copied > _HANDED_ON * self._limit:
            raise UnpicklingError("it copies its contents again and again")


def _length(value: Any) -> int:
    if isinstance(value, _Held):
        return value.count
    return len(value) if isinstance(value, str | bytes | tuple) else 1


def _nested(items: list[Any]) -> _Nested:
    """A tuple, unless it would be so deep that Python crashes, or of more values than it holds."""
    inner = [item for item in items if isinstance(item, _Nested)]
    made = _Nested(items)
    made.depth = 1 + max((item.depth for item in inner), default=0)
    made.values = len(items) + sum(item.values for item in inner)
    if made.depth > _DEEPEST_TUPLE or made.values > _LARGEST_TUPLE:
        raise UnpicklingError("it nests tuples in tuples without end")
    return made
