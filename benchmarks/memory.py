"""How much memory a call needs at its peak."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import torch

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"  # resets VmHWM: proc(5), clear_refs


def peak_memory(call: Callable[[], object], device: str) -> int | None:
    """Returns the bytes that a call adds to the memory in use, results included.

    On the CPU it is the growth of the process' resident memory, which only Linux tells (None
    elsewhere) and which the other threads of the process share.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated()) - before
    try:
        _return_free_memory()
        _CLEAR.write_text(_RESET_PEAK)
        resident = _status("VmRSS")
        call()
        return _status("VmHWM") - resident
    except OSError:
        return None


def _return_free_memory() -> None:
    """Gives what the C library keeps for later back to the system; reused, it would not count."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's only
        if trim is not None:
            trim(0)


def _status(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        name, _, text = line.partition(":")
        if name == field:
            return int(text.split()[0]) * 1024
    raise OSError(f"{_STATUS} has no {field}")
