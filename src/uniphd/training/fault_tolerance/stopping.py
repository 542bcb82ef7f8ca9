"""Being asked to stop from outside: remembered until the state can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

from lightning.pytorch.utilities import rank_zero_only

from uniphd.data.resumable import STOP_SIGNALS
from uniphd.interrupt import say

_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class StopRequested(SystemExit):
    """Ends the process with 128 + the signal's number, as a shell reports one that it ended.

    143 after SIGTERM, 138 after SIGUSR1, 140 after SIGUSR2 on Linux: not finished, so start the
    command again. 130 after SIGINT (Ctrl-C).

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class StopSignals:
    """Remembers the first signal that asks this process to stop, until it is followed.

    A second Ctrl-C is followed at once.

    Signals that are ignored when this object is made stay ignored. What another handler was there
    for, such as submitit's, which sends the job to the queue again, is left to it, but that the
    state is saved before.

    Attributes:
        received: the signal's number; 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self._handlers = {
            number: handler
            for number, handler in handlers.items()
            if handler is signal.SIG_DFL or callable(handler)
        }
        self._before: dict[int, _Handler] = {}

    def listen(self) -> None:
        """Take the signals; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in self._handlers:
                self._before[number] = signal.signal(number, self._remember)

    def restore(self) -> None:
        """Give the signals back to whom they were taken from."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def follow(self, number: int) -> None:
        """Do what a signal asks for, now that the state is saved.

        Args:
            number: the signal's; another process of the same training may have received it.

        Raises:
            StopRequested: unless another handler was there for the signal, which then decides.
        """
        self.received = 0
        handler = self._handlers.get(number)
        if not callable(handler):
            raise StopRequested(number)
        handler(number, None)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.received == number:
                self.follow(number)
            rank_zero_only(say)("Ctrl-C: stops with its state saved; again, to end at once")
        self.received = self.received or number
