"""The command and its processes start without PyTorch, which takes seconds and 300 MB each."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from uniphd.cli.data import main
try:
    main(["from-coco", "--help"])
except SystemExit:
    pass
import uniphd.datatools.from_coco.convert
assert "torch" not in sys.modules, "torch is imported"
"""


def test_it_starts_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--exclude" in done.stdout
