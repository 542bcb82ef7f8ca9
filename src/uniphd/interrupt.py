"""Ctrl-C: one line and 130, not a traceback."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_EXIT_CODE = 128 + signal.SIGINT  # as a shell reports a program that it ended


@contextmanager
def exit_at_interrupt(command: str, quiet: bool = False) -> Iterator[None]:
    """End the program with one line at Ctrl-C, wherever it is.

    Where SIGINT is ignored, or somebody else handles it, that is left as it is.

    Args:
        command: the program's name.
        quiet: leave the line to another process, which the terminal interrupts, too.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process and not quiet:  # a forked process only ends
            say(f"{command}: stopped by Ctrl-C")
        raise SystemExit(_EXIT_CODE)

    process = os.getpid()
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before not in (signal.default_int_handler, signal.SIG_DFL):
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_silently() -> None:
    """Let the system end the process at Ctrl-C, where Python would print a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def say(line: str) -> None:
    """Print a line on the error output from within a signal's handler, where `print` may fail."""
    os.write(2, f"\n{line}\n".encode())
