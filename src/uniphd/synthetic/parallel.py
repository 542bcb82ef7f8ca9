"""Drawing many scenes in several processes, in order."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Result = TypeVar("_Result")
_CHUNK = 16  # scenes handed to a process at a time


@contextmanager
def scene_pool(workers: int | None = None) -> Iterator[ScenePool]:
    """Processes that draw; they end with the block.

    Args:
        workers: how many; None for one per core. With one, this process draws.
    """
    if workers is None:
        workers = os.cpu_count() or 1
    if workers == 1:
        yield ScenePool(None)
        return
    # Started afresh: a copy of this process would hold its threads' locks.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as executor:
        yield ScenePool(executor)


class ScenePool:
    """Calls a function for the numbers of scenes.

    Args:
        executor: the processes, or None to call it here.
    """

    def __init__(self, executor: ProcessPoolExecutor | None) -> None:
        self._executor = executor

    def map(self, function: Callable[[int], _Result], count: int) -> Iterator[_Result]:
        """The results for 0, 1, ..., count - 1, in this order."""
        if self._executor is None:
            return map(function, range(count))
        return self._executor.map(function, range(count), chunksize=_CHUNK)
