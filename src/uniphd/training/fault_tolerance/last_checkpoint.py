"""`last.ckpt`: always the newest state, for resuming; and stopping when a scheduler asks for it."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any
from weakref import proxy

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from uniphd.errors import ConfigError
from uniphd.training.fault_tolerance.stopping import StopSignals
from uniphd.training.lightning_internals import keep_slurm_from_requeueing

_logger = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Overwrites `last.ckpt`, and keeps the previous one as `previous.ckpt`.

    `last.ckpt` is replaced atomically (`DurableCheckpointIO`). It is written

    - every `every_n_steps` steps, but never while gradients are being accumulated;
    - before a validation, so that a kill during it costs no training, and after it. A validation
      after the last of `max_steps` steps is preceded by a checkpoint one step earlier: a run that
      is resumed at its end would not validate;
    - at the end of every epoch, if training is counted in epochs, and at the end of training.

    At SIGTERM, SIGINT (Ctrl-C), SIGUSR1 or SIGUSR2 the step is finished, the state is saved and the
    process ends, see `StopSignals`. A validation is interrupted and starts again when the run is
    resumed.

    Args:
        dirpath: folder of the checkpoints.
        every_n_steps: optimizer steps after which the state is saved at the latest.

    Raises:
        ConfigError: the number is below 1.
    """

    current_score = None  # loggers that upload checkpoints ask for this and `last_model_path`

    def __init__(self, dirpath: str | Path, every_n_steps: int = 500) -> None:
        if every_n_steps < 1:
            raise ConfigError(
                f"callbacks.last.every_n_steps is {every_n_steps}; give a number of at least 1."
            )
        self.path = Path(dirpath).expanduser().resolve() / "last.ckpt"
        self.last_model_path = str(self.path)
        self.every_n_steps = every_n_steps
        self._signals = StopSignals()
        self._saved_step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out who handles signals, before Lightning does.

        Lightning's own way in Slurm saves at any moment, also between a step and its logs, requeues
        the job at once, and goes on training.
        """
        self._signals = StopSignals()
        keep_slurm_from_requeueing(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to listen, and to count from what is saved already."""
        self._signals.listen()
        self._saved_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save the step before, which is complete and logged, when it is time or asked to stop."""
        if batch_idx % trainer.accumulate_grad_batches:
            return
        number = self._asked_to_stop(trainer)
        steps = trainer.global_step - self._saved_step
        if steps and (number or steps >= self.every_n_steps or _at_the_end(trainer, 1)):
            self._save(trainer)
        self._follow(number)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what the validation is of, unless a resumed run would end before validating it."""
        new = self._saved_step != trainer.global_step
        if new and not _at_the_end(trainer) and _between_steps(trainer):
            self._save(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop where asked to, if what is validated has been saved, or all but its last step."""
        if self._saved_step == trainer.global_step or _at_the_end(trainer):
            self._follow(self._asked_to_stop(trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save again, so that the validation is not repeated."""
        if _between_steps(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save an epoch without validation, unless training is counted in steps."""
        by_epochs = trainer.check_val_every_n_epoch is not None
        if by_epochs and self._saved_step != trainer.global_step:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, unless the newest state is saved already; signals are somebody else's again."""
        if self._saved_step != trainer.global_step:
            self._save(trainer)
        self._signals.restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Signals are somebody else's again."""
        self._signals.restore()

    def _save(self, trainer: Trainer) -> None:
        """Write the file, in a training that is meant."""
        if trainer.fast_dev_run or trainer.sanity_checking:  # type: ignore[attr-defined]
            return
        if trainer.state.fn != TrainerFn.FITTING:
            return
        trainer.save_checkpoint(self.path, weights_only=False)
        self._saved_step = trainer.global_step
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(self))

    def _asked_to_stop(self, trainer: Trainer) -> int:
        """The signal that any process received, the same answer in all of them; 0 for none."""
        if trainer.world_size == 1:
            return self._signals.received
        received = torch.tensor(self._signals.received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(received, reduce_op="max"))

    def _follow(self, number: int) -> None:
        """Do what a signal asks for, if there is one; it may end the process."""
        if number:
            state = f"{self.path} has the state" if self.path.exists() else "no step is done yet"
            _logger.warning("%s: %s", signal.Signals(number).name, state)
            self._signals.follow(number)


def _at_the_end(trainer: Trainer, steps: int = 0) -> bool:
    """Whether so many steps are left of those that the run has in all."""
    return trainer.max_steps != -1 and trainer.max_steps - trainer.global_step <= steps


def _between_steps(trainer: Trainer) -> bool:
    """Whether the batch before this moment was an optimizer step's last."""
    batches = trainer.fit_loop.batch_idx + 1
    return batches % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
