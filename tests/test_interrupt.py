"""Ctrl-C ends every command with one line."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uniphd.interrupt import exit_at_interrupt


def test_one_line_and_130(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended, exit_at_interrupt("uniphd-data"):
        signal.raise_signal(signal.SIGINT)
    assert ended.value.code == 130
    assert capfd.readouterr().err.split("\n") == ["", "uniphd-data: stopped by Ctrl-C", ""]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("other", [signal.SIG_IGN, lambda number, frame: None])
def test_what_somebody_else_decided_is_left(other: signal.Handlers) -> None:
    before = signal.signal(signal.SIGINT, other)
    try:
        with exit_at_interrupt("uniphd-data"):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is other
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_a_command_that_is_imported_ends_without_a_traceback(tmp_path: Path) -> None:
    """Its imports signal themselves."""
    (tmp_path / "torch.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    places = os.pathsep.join([str(tmp_path), *sys.path])
    ended = subprocess.run(
        [sys.executable, "-m", "uniphd.cli.train"],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_importing_a_command_changes_nothing_for_others() -> None:
    importlib.import_module("uniphd.cli.report")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_rendering_ends_and_leaves_nothing(tmp_path: Path, workers: str) -> None:
    """With everybody that a terminal would interrupt."""
    command = [sys.executable, "-m", "uniphd.cli.data", "synth", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, "--train", "9000", "--workers", workers],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(tmp_path.rglob("*.png")):  # until it renders
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.split("\n") == ["", "uniphd-data: stopped by Ctrl-C", ""]
    assert not list(tmp_path.iterdir())
