"""Which implementation runs: the setting ``UNIPHD_OPS``, and loading the native operators once.

``UNIPHD_OPS`` is ``auto`` (the default: native where it can be built, otherwise reference with one
line saying why), ``native`` (an error where it cannot be built) or ``reference`` (never builds).
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Literal

import torch

from uniphd.errors import ConfigError
from uniphd.ops.build import build
from uniphd.ops.errors import NativeOpsError
from uniphd.ops.plan import NATIVE_DEVICES
from uniphd.ops.registration import register_python_parts

logger = logging.getLogger("uniphd.ops")

_lock = threading.RLock()
_loaded: set[str] = set()
_failed: dict[str, NativeOpsError] = {}


def configured_mode() -> str:
    """Returns ``UNIPHD_OPS``: "auto", "native" or "reference".

    Raises:
        ConfigError: The variable has another value.
    """
    mode = os.environ.get("UNIPHD_OPS", "auto")
    if mode not in ("auto", "native", "reference"):
        raise ConfigError(f"UNIPHD_OPS is {mode!r}; set it to auto, native or reference")
    return mode


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def resolve_backend(device_type: str, required: bool) -> Literal["native", "reference"]:
    """Returns the implementation for tensors on a device, building the native one if needed.

    Args:
        device_type: "cpu", "cuda" or any other device of PyTorch's.
        required: The caller asked for native, whatever ``UNIPHD_OPS`` says.

    Raises:
        ConfigError: ``UNIPHD_OPS`` has an unknown value.
        NativeOpsError: Native is required, here or by ``UNIPHD_OPS``, and cannot be had.
    """
    mode = "native" if required else configured_mode()
    if mode == "reference":
        return "reference"
    if device_type not in NATIVE_DEVICES and mode == "auto":
        return "reference"
    try:
        load_native(device_type)
    except NativeOpsError:
        if mode == "native":
            raise
        return "reference"
    return "native"


def load_native(device_type: str) -> None:
    """Loads the native operators of a device into PyTorch; compiles them if no build is cached.

    Call it before a process group exists: a build may then take as long as it needs. A failure is
    remembered, logged once, and raised again by later calls.

    Raises:
        NativeOpsError: The operators cannot be built or loaded.
    """
    if device_type in _loaded:
        return
    with _lock:
        if device_type in _loaded:
            return
        if device_type in _failed:
            raise _failed[device_type]
        try:
            _load(device_type)
        except NativeOpsError as error:
            _failed[device_type] = error
            logger.warning(
                "deformable attention on %s runs its PyTorch reference: %s",
                device_type,
                error.reason,
            )
            raise


def _load(device_type: str) -> None:
    if device_type not in NATIVE_DEVICES:
        raise NativeOpsError(f"there are no native operators for {device_type!r} tensors")
    if device_type != "cpu":
        load_native("cpu")  # its library also holds the operators' schemas
    path = build(device_type)
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        said = error.__cause__ or error  # PyTorch's message leaves out what the loader said
        raise NativeOpsError(f"{path} does not load, delete it to build anew: {said}") from error
    if device_type == "cpu":
        register_python_parts()
    _loaded.add(device_type)
