"""Keeps memory that was freed, because getting it back from the system costs more than arithmetic.

glibc gives large blocks back to the system when they are freed. A training step on the CPU frees
and takes hundreds of MB, and every page of 4 KB that comes back is a page fault.
"""

from __future__ import annotations

import ctypes
import os

# mallopt(3)
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP = 2**31 - 1  # bytes; the largest that mallopt takes
_BLOCK = 2**30  # bytes; larger blocks still come from the system and go back to it


def keep_freed_memory() -> bool:
    """Make this process reuse its memory; says whether it does.

    Nothing happens where the user has set glibc's `MALLOC_…_` variables or replaced the allocator
    with `LD_PRELOAD`, nor on systems without glibc.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if chosen or "LD_PRELOAD" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _BLOCK) and mallopt(_M_TRIM_THRESHOLD, _KEEP))
