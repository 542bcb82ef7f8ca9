"""The state of every random number generator that a training may use, as plain values."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import distributed


def random_states(device: torch.device) -> list[dict[str, Any]]:
    """The states of all processes by their rank; every process has to call this.

    Args:
        device: this process's.
    """
    own = _collect(device)
    if not (distributed.is_available() and distributed.is_initialized()):
        return [own]
    states: list[dict[str, Any]] = [{} for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(states, own)
    return states


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Go on from one process's state; a generator of another kind of device keeps its own."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def spread_random_state(rank: int) -> None:
    """Let a process draw other numbers than those before it, from the seed that all were given.

    The first process is left as it is. Dropout would leave out the same of every process's batch.

    Args:
        rank: this process's.
    """
    if rank > 0:
        seed = torch.initial_seed() + rank
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed % 2**64)


def _collect(device: torch.device) -> dict[str, Any]:
    numpy_state: Any = np.random.get_state()
    name, keys, *rest = numpy_state
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state
