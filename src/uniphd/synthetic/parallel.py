"""Rendering many scenes in several processes, in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_CHUNK = 16  # scenes handed to a process at a time


def parallel_map(
    function: Callable[[_Job], _Result], jobs: Sequence[_Job], workers: int | None = None
) -> Iterator[_Result]:
    """The results for all jobs, in their order.

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
    with ProcessPoolExecutor(workers, context, _ignore_interrupts) as executor:
        with _started_without_interrupts():
            results = executor.map(function, jobs, chunksize=_CHUNK)
        yield from results


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
