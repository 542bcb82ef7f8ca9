"""A program that ends with an error does not wait for the processes that load its data."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from uniphd.data.resumable import ResumableLoader, leave_stopping_to_the_main_process
from uniphd.data.samplers import EpochSampler

class Numbers:
    def __len__(self):
        return 8
    def __getitem__(self, index):
        if sys.argv[3] == "stuck" and index == 6:
            time.sleep(1000)
        return index

numbers = Numbers()
loaders = [
    ResumableLoader(
        numbers,
        sampler=EpochSampler(numbers, False, 0),
        num_workers=2,
        persistent_workers=persistent,
        worker_init_fn=leave_stopping_to_the_main_process,
    )
    for persistent in (False, sys.argv[2] == "persistent")
]
passes = [iter(loader) for loader in loaders]
for position in range(int(sys.argv[1])):
    for one in passes:
        next(one)
raise RuntimeError("boom")
"""


def end(*arguments: str) -> None:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith("RuntimeError: boom")


def test_an_error_in_the_middle_of_a_pass_ends_the_program() -> None:
    end("1", "once", "sound")


@pytest.mark.slow
@pytest.mark.parametrize("persistent", ["once", "persistent"])
@pytest.mark.parametrize(("position", "loading"), [("8", "sound"), ("4", "stuck")])
def test_wherever_the_error_is_raised(position: str, persistent: str, loading: str) -> None:
    end(position, persistent, loading)
