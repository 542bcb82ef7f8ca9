"""Memory that was freed is reused."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from uniphd.config.allocator import keep_freed_memory
{call}
torch.ones(24 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(16 * 2**20)  # 64 MB, 16,384 pages of 4 KB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def _run(code: str, **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if "MALLOC" not in key}
    environment.pop("LD_PRELOAD", None)
    command = [sys.executable, "-c", code]
    run = subprocess.run(
        command, env={**environment, **variables}, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


@glibc
def test_a_large_block_is_not_faulted_in_twice() -> None:
    fresh = int(_run(FAULTS.format(call="")))
    kept = int(_run(FAULTS.format(call="keep_freed_memory()")))
    assert kept < fresh / 10


@glibc
@pytest.mark.parametrize("variable", ["MALLOC_ARENA_MAX", "LD_PRELOAD"])
def test_what_the_user_has_set_stays(variable: str) -> None:
    code = "from uniphd.config.allocator import keep_freed_memory; print(keep_freed_memory())"
    assert _run(code) == "True"
    value = "1" if variable == "MALLOC_ARENA_MAX" else "libm.so.6"
    assert _run(code, **{variable: value}) == "False"
