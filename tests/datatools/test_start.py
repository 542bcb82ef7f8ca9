"""The commands and their processes start without PyTorch, which takes seconds and 300 MB each."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import sys
from importlib import import_module
from uniphd.cli.data import main
try:
    main([sys.argv[1], "--help"])
except SystemExit:
    pass
import_module(sys.argv[2])
assert "torch" not in sys.modules, "torch is imported"
"""


@pytest.mark.parametrize(
    ("command", "work", "option"),
    [
        ("from-coco", "uniphd.datatools.from_coco.convert", "--exclude"),
        ("check", "uniphd.datatools.check.run", "--fix"),
    ],
)
def test_it_starts_without_torch(command: str, work: str, option: str) -> None:
    program = [sys.executable, "-c", _PROGRAM, command, work]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert option in done.stdout
