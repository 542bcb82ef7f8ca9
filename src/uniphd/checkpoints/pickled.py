"""Read `.pth` and `.ckpt` files, which are pickles, as data: nothing that they name is called.

What people keep beside the weights (NumPy's numbers and arrays, paths, dictionaries with a default)
is read through the stand-ins below. NumPy's and Python's own constructors are never given what a
file says.
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uniphd.checkpoints.archive import is_archive, read_archive
from uniphd.checkpoints.checksum import require_whole
from uniphd.checkpoints.inspection import Inspector
from uniphd.errors import CheckpointError

_LARGEST_PICKLE = 1 << 24  # bytes; that of a large network with its optimizer has a million
_PICKLES_BEFORE_1_6 = 5  # of PyTorch, whose files were no archives
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
    return "/".join(part for part in parts if isinstance(part, str))


def _dictionary(*_: Any) -> dict[Any, Any]:
    return {}


_OMEGACONF = (
    *("dictconfig.DictConfig", "listconfig.ListConfig", "base.ContainerMetadata", "base.Metadata"),
    *(f"nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean", "Path")),
)
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
    **{
        f"datetime.{name}": _array for name in ("date", "datetime", "time", "timedelta", "timezone")
    },
    **{f"uuid.{name}": _Array for name in ("UUID", "SafeUUID")},
    "typing.Any": _Array,
    "types.SimpleNamespace": argparse.Namespace,
    **{f"omegaconf.{name}": _Array for name in _OMEGACONF},
}


def read_pickle_safely(source: Path) -> Mapping[str, Any]:
    """Load a torch checkpoint with `weights_only=True`, and plain values beside the weights.

    Raises:
        CheckpointError: the file is missing, damaged, would execute code, or would take more memory
            than it has bytes.
    """
    stand_ins = [(stand_in, name) for name, stand_in in _STAND_INS.items()]
    try:
        _inspect(source, require_whole(source))
        with torch.serialization.safe_globals([argparse.Namespace, *stand_ins]):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint file {source}.") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{source} was not loaded: {_first_line(error)}.") from error
    except Exception as error:  # readers of damaged files raise nearly anything
        raise CheckpointError(
            f"{source} is not a readable checkpoint: {_first_line(error)}."
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source} holds a {type(content).__name__}, not a state dict.")
    return content


def _inspect(source: Path, compared: int | None) -> None:
    """Refuse a file that would do or take more than it should; see `Inspector`."""
    size = source.stat().st_size
    harmless = {"argparse.Namespace", *_STAND_INS}
    if is_archive(source):
        archive = read_archive(source, compared, _LARGEST_PICKLE)
        Inspector(size, len(archive.pickle), archive.storages, harmless).follow(archive.pickle)
        return
    with source.open("rb") as file:
        stream = io.BytesIO(file.read(_LARGEST_PICKLE))
    inspector = Inspector(size, len(stream.getvalue()), None, harmless)
    for _ in range(_PICKLES_BEFORE_1_6):
        inspector.follow(stream)


def _first_line(error: Exception) -> str:
    return _printable(str(error).strip().split("\n", 1)[0]).rstrip(".") or type(error).__name__


def _printable(text: str) -> str:
    return re.sub(r"[^ -~]", "", text)
