"""Being asked to stop from outside: remembered until the state can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

from uniphd.data.resumable import STOP_SIGNALS

_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class StopRequested(SystemExit):
    """Ends the process with 128 + the signal's number, as a shell reports one that it ended.

    143 after SIGTERM, 138 after SIGUSR1 on Linux: not finished, so start the command again.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class StopSignals:
    """Remembers the first signal that asks this process to stop; any further one changes nothing.

    Signals that something else handles already when this object is made, such as submitit, which
    sends the job to the queue again itself, are left to it.

    Attributes:
        received: the signal's number, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._numbers = [n for n in STOP_SIGNALS if signal.getsignal(n) is signal.SIG_DFL]
        self._before: dict[int, _Handler] = {}

    def listen(self) -> None:
        """Take the signals; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                self._before[number] = signal.signal(number, self._remember)

    def restore(self) -> None:
        """Give the signals back to whom they were taken from."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
