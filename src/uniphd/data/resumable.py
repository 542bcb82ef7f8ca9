"""A loader that can begin an epoch in the middle, and whose processes do not die before it."""

from __future__ import annotations

import atexit
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any, cast
from weakref import ref

from torch.utils.data import DataLoader

from uniphd.data.dataset import Sample
from uniphd.data.samplers import EpochSampler
from uniphd.errors import UniPHDError
from uniphd.refusals import message

# What schedulers ask a job to stop with: SIGTERM when they take the machine away, SIGUSR1 (Slurm's
# `--signal=USR1@300`) or SIGUSR2 (submitit's) some time before its end; and a terminal at Ctrl-C:
# SIGINT. Windows has no SIGUSR1 and SIGUSR2.
STOP_SIGNALS: tuple[int, ...] = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


class ResumableLoader(DataLoader[Sample]):
    """Knows how many people of the epoch it has handed out, and can leave as many out.

    Lightning stores the state of a loader that has one in its checkpoints. The order of an epoch
    and each of its samples depend on nothing but the seed, so the number of people is all there is
    to know, whatever the size of the batches and the number of processes. Its sampler is an
    `EpochSampler`.

    Attributes:
        resumed_at: batches of a resumed epoch that are left out. Where the batches have another
            size than before, the first of those that are left begins in the middle of one.
    """

    resumed_at = 0
    _handed_out = 0
    _skip = 0
    _ahead = 0  # people who were handed out beside whole batches

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches of an epoch; after `load_state_dict`, once, those that were left of it."""
        skip, self._skip = self._skip, 0
        return self._batches(skip)

    def _batches(self, skip: int) -> Iterator[Any]:
        """Begin to load when the first batch is asked for, by when the sampler knows the epoch.

        A loader with processes begins at once otherwise, which in a resumed run is before Lightning
        calls `set_epoch`: it would load the first epoch's data again.
        """
        self._epoch_sampler.skip = skip
        self._handed_out = self._whole_batches(skip)
        self._ahead = skip - self._handed_out * self._size if skip else 0
        batches = super().__iter__()
        # What is registered last is called first, so before Python waits for the processes.
        at_exit = partial(_end_workers, ref(batches))
        if self.num_workers:
            atexit.register(at_exit)
        try:
            for batch in batches:
                self._handed_out += 1
                yield batch
        except Exception as error:
            if self.num_workers and not self.persistent_workers:
                at_exit()  # now: the error's traceback may keep the pass alive until then
            if not (self.num_workers and isinstance(error, UniPHDError)):
                raise
            raise type(error)(*message(error).splitlines()) from RuntimeError(error.args[0])
        finally:
            if not self.persistent_workers:
                atexit.unregister(at_exit)

    def state_dict(self) -> dict[str, int]:
        """How many people of the epoch were handed out.

        Returns:
            `batches`, of `batch_size` people in each of `processes`, and how many people more than
            in these every process has had: `ahead`.
        """
        return {
            "batches": self._handed_out,
            "batch_size": self._size,
            "processes": self._epoch_sampler.num_replicas,
            "ahead": self._ahead,
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin the next pass behind the same people.

        Args:
            state_dict: of any size of batches; without a size, of this loader's.

        Raises:
            ConfigError: what is left cannot be divided among this number of processes.
        """
        size = state_dict.get("batch_size", self._size)
        processes = state_dict.get("processes", self._epoch_sampler.num_replicas)
        if people := state_dict["batches"] * size + state_dict.get("ahead", 0):
            self._skip = self._epoch_sampler.share(people * processes, processes)
            self.resumed_at = self._whole_batches(self._skip)

    @property
    def _epoch_sampler(self) -> EpochSampler:
        return cast(EpochSampler, self.sampler)

    @property
    def _size(self) -> int:
        """What the sampler gives for a batch."""
        return self.batch_size or 1

    def _whole_batches(self, skip: int) -> int:
        """The epoch's batches, less those that are left behind so many people."""
        return len(self) - -(-(len(self._epoch_sampler) - skip) // self._size)


def leave_stopping_to_the_main_process(worker: int) -> None:
    """Ignore `STOP_SIGNALS` in a process that loads data.

    Schedulers signal every process of a job, and so does a terminal at Ctrl-C. A loading process
    that dies of it would end the training with an error before its state is saved; loading ends
    when the main process does.

    Args:
        worker: number of the loading process.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end_workers(iterator: ref[Any]) -> None:
    """End a pass's loading processes when the program ends with an error.

    The error's traceback keeps the pass alive, and Python would send its processes a SIGTERM, which
    they ignore, and wait for them for ever.
    """
    if (batches := iterator()) is not None:
        batches._shutdown_workers()
        for worker in batches._workers:
            worker.kill()
