"""Read `.pth` and `.ckpt` files, which are pickles, as data: nothing that they name is called.

What people keep beside the weights (NumPy's numbers and arrays, paths, dictionaries with a default)
is read through the stand-ins below. NumPy's and Python's own constructors are never given what a
file says.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uniphd.checkpoints.checksum import require_whole
from uniphd.errors import CheckpointError

_NAMED = re.compile(r"GLOBAL ([\w.]+)")
_PLAIN_NUMBER = re.compile(r"[biufc]\d{1,2}")


class _Array:
    """Stands for an array, or what else is of no use to a network."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class _NumberType:
    """Stands for `numpy.dtype`."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _array(*_: Any) -> _Array:
    return _Array()


def _number(kind: Any = None, data: Any = b"", *_: Any) -> Any:
    """The value of a NumPy scalar, where it is a number."""
    name = getattr(kind, "name", None)
    if not isinstance(name, str) or not _PLAIN_NUMBER.fullmatch(name):
        return _Array()
    return np.frombuffer(data, kind.order + name)[0].item()


def _path(*parts: Any) -> str:
    return "/".join(str(part) for part in parts)


def _dictionary(*_: Any) -> dict[Any, Any]:
    return {}


_STAND_INS: dict[str, Any] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _NumberType,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy._core.multiarray._reconstruct": _array,
    "collections.defaultdict": _dictionary,
    **{
        f"{module}.{name}": _path
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    },
    **{f"builtins.{name}": _array for name in ("list", "dict", "int", "float", "str", "bool")},
}


def read_pickle_safely(source: Path) -> Mapping[str, Any]:
    """Load a torch checkpoint with `weights_only=True`, and plain values beside the weights.

    Raises:
        CheckpointError: the file is missing, damaged, or would execute code.
    """
    stand_ins = [(stand_in, name) for name, stand_in in _STAND_INS.items()]
    try:
        require_whole(source)
        _require_uncompressed(source)
        with torch.serialization.safe_globals([argparse.Namespace, *stand_ins]):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint file {source}.") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{source} was not loaded, because it is damaged or asks for code to be executed: "
            f"{_what_it_asks_for(str(error))}."
        ) from error
    except Exception as error:  # readers of damaged files raise nearly anything
        reason = _printable(str(error).split("\n", 1)[0]) or type(error).__name__
        raise CheckpointError(f"{source} is not a readable checkpoint: {reason}.") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source} holds a {type(content).__name__}, not a state dict.")
    return content


def _what_it_asks_for(message: str) -> str:
    """The class that torch's message is about, or what it found."""
    found = message.rpartition("WeightsUnpickler error: ")[2].strip()
    if match := _NAMED.search(found):
        return (
            f"it holds {match[1]}, which is more than data. Save the weights alone, with "
            "torch.save(network.state_dict(), FILE)"
        )
    return _printable(found.split("\n", 1)[0]).rstrip(".")


def _printable(text: str) -> str:
    return re.sub(r"[^ -~]", "", text)


def _require_uncompressed(source: Path) -> None:
    """Refuse archives that are larger than their file; `torch.save` compresses nothing."""
    if not zipfile.is_zipfile(source):
        return
    with zipfile.ZipFile(source) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > source.stat().st_size
    ):
        raise CheckpointError(
            f"{source} is a compressed archive, which may grow without limit when it is read; "
            "give a file as torch.save writes it."
        )
