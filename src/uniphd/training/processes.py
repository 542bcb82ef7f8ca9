"""What the processes of a training tell each other: one small collective a step.

Every process has its own batch. The mean over the people of all processes is what is trained on and
logged, as if one process had taken all batches as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

from uniphd.errors import TrainingError

Item = TypeVar("Item")

_LOADER_DIED = re.compile(r"DataLoader worker \(pid.*?\) (is killed by signal: [\w ]+|exited \w+)")

# gloo's errors have no class of their own; what it says of a peer that is gone, and a silent one.
_LOST = re.compile(
    r"gloo|connection (was )?(closed|reset) by|pair closure|broken pipe|timed out waiting", re.I
)


@dataclass(frozen=True)
class SharedLosses:
    """A step's losses over all processes; the same in each of them.

    Attributes:
        people: () of all processes.
        weight: () this process's share of the people, times the number of processes. Gradients are
            averaged over processes, so that a loss times this becomes the mean over all people.
        losses: () means over the people of all processes, detached.
        counts: () sums over all processes.
    """

    people: Tensor
    weight: Tensor
    losses: dict[str, Tensor]
    counts: dict[str, Tensor]


def share_losses(
    losses: Mapping[str, Tensor], counts: Mapping[str, Tensor], people: int
) -> SharedLosses:
    """Put the losses of all processes together: the step's only collective beside DDP's own.

    Args:
        losses: () means over this process's people, with the same names in every process.
        counts: () numbers to add up, likewise.
        people: of this process, at least 1.
    """
    device = next(iter(losses.values())).device
    own = torch.tensor(float(people)).to(device, non_blocking=True)
    means = torch.stack([value.detach().float() for value in losses.values()])
    numbers = [value.float().unsqueeze(0) for value in counts.values()]
    sums = torch.cat([own.unsqueeze(0), means * own, *numbers])
    if in_group():
        distributed.all_reduce(sums)
    total, weighted, counted = sums[0], sums[1 : 1 + len(losses)], sums[1 + len(losses) :]
    return SharedLosses(
        people=total,
        weight=own * number_of_processes() / total,
        losses=dict(zip(losses, (weighted / total).unbind(), strict=True)),
        counts=dict(zip(counts, counted.unbind(), strict=True)),
    )


def gather(item: Item) -> list[Item]:
    """One picklable item of every process, by rank; a collective."""
    items = [item] * number_of_processes()
    if in_group():
        distributed.all_gather_object(items, item)
    return items


def number_of_processes() -> int:
    """How many processes train together; 1 without a process group."""
    return distributed.get_world_size() if in_group() else 1


def in_group() -> bool:
    """Whether this process belongs to a process group."""
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def explain_lost_processes() -> Iterator[None]:
    """Say in a sentence what it means when a collective fails.

    NCCL's watchdog may end the process first, with a message of its own.

    Raises:
        TrainingError: a loading process has died; the processes did not find each other; or another
            one is gone, or has not answered within the group's time-out.
    """
    try:
        yield
    except RuntimeError as error:
        if died := _LOADER_DIED.search(str(error)):
            raise TrainingError(
                f"A process that loads data has died: {died[0].strip()}. The machine's memory may "
                "be full: give fewer data.num_workers or a smaller data.batch_size. The same "
                "command with ckpt_path=last goes on from the last checkpoint."
            ) from error
        if not isinstance(error, distributed.DistError) and _LOST.search(str(error)) is None:
            raise
        said = re.sub(r"^\[[^\]]*\] *", "", str(error).strip())  # a source file and line
        reason = said.splitlines()[0].partition(". ")[0]
        if not in_group():
            raise TrainingError(
                f"The processes of this training did not find each other ({reason}). Start all of "
                "them, and see that the first one's address and port can be reached."
            ) from error
        raise TrainingError(
            f"Process {distributed.get_rank()} of {number_of_processes()} lost another process, "
            "which has ended, cannot be reached or has been silent for longer than the time-out "
            f"({reason}). See what ended it; the same command with ckpt_path=last goes on from the "
            "last checkpoint."
        ) from error
