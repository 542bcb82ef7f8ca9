"""What a checkpoint needs beside Lightning's contents so that a resumed run equals a whole one."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer

from uniphd.training.fault_tolerance.progress import count_batches_anew, repair_counters
from uniphd.training.fault_tolerance.random_state import (
    random_states,
    restore_random_state,
    spread_random_state,
)
from uniphd.training.lightning_internals import count_logged_steps

RANDOM_KEY = "uniphd_random"
"""Where a training checkpoint holds the states of the random number generators, by rank."""


class ExactResume(Callback):
    """Stores random number generators and repairs Lightning's counters; see `repair_counters`.

    Every process has generators of its own. Those without a stored state (all of them in a new run;
    with more processes than before, the further ones) start from the seed and their rank.
    """

    def __init__(self) -> None:
        self._validated = False
        self._states: list[dict[str, Any]] = []

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the generators' states, and repair the counters."""
        checkpoint[RANDOM_KEY] = random_states(pl_module.device)
        repair_counters(checkpoint["loops"]["fit_loop"], trainer.validating, self._validated)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the states for the moment when training starts; checkpoints of others have none."""
        self._states = checkpoint.get(RANDOM_KEY, [])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the place in the epoch, and the generators' states of this process, or new ones."""
        count_batches_anew(trainer)
        if trainer.global_rank < len(self._states):
            restore_random_state(self._states[trainer.global_rank], pl_module.device)
        else:
            spread_random_state(trainer.global_rank)
        self._states = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Number what is logged by optimizer steps; a resumed run may begin off by one."""
        count_logged_steps(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The newest state is one that has not been validated."""
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that the newest state has been validated."""
        self._validated = not trainer.sanity_checking
