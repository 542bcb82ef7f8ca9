"""Many jobs in several processes, their results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_CHUNK = 16  # jobs handed to a process at a time
_AHEAD = 4  # such chunks per process that wait or whose results wait


def parallel_map(
    function: Callable[[_Job], _Result], jobs: Iterable[_Job], workers: int | None = None
) -> Iterator[_Result]:
    """The results for all jobs, in their order.

    A job is taken when a process will soon be free for it, so that memory does not depend on how
    many there are.

    Args:
        function: can be pickled.
        jobs: its arguments.
        workers: processes; None for one per core. With one, this process works itself.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield from map(function, jobs)
        return
    # Started afresh: a copy of this process would hold its threads' locks.
    context = multiprocessing.get_context("spawn")
    remaining = iter(jobs)
    waiting: deque[Future[list[_Result]]] = deque()
    with ProcessPoolExecutor(workers, context, _ignore_interrupts) as executor:
        try:
            while True:
                while len(waiting) < _AHEAD * workers and (some := list(islice(remaining, _CHUNK))):
                    with _started_without_interrupts():
                        waiting.append(executor.submit(_each, function, some))
                if not waiting:
                    return
                yield from waiting.popleft().result()
        finally:
            executor.shutdown(cancel_futures=True)


def _each(function: Callable[[_Job], _Result], jobs: Sequence[_Job]) -> list[_Result]:
    return list(map(function, jobs))


@contextmanager
def _started_without_interrupts() -> Iterator[None]:
    """Let processes that are started ignore Ctrl-C from their first moment, as they inherit it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
