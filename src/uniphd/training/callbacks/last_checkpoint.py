"""`last.ckpt`: always the newest state, for resuming; and stopping when a scheduler asks for it."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any
from weakref import proxy

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from uniphd.training.stopping import StopRequested, StopSignals

_logger = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Overwrites `last.ckpt`; the one before stays as `previous.ckpt` (`DurableCheckpointIO`).

    It is written every so many steps, before and after every validation (so that a kill during one
    costs no training), at the end of epochs where training is counted in epochs, and at the end.
    It is not written between batches whose gradients are still being accumulated.

    At SIGTERM or SIGUSR1 the step is finished, the state saved and the process ended, see
    `StopRequested`. A validation is broken off; it begins anew when the run is resumed.

    Args:
        dirpath: folder of the checkpoints.
        every_n_steps: optimizer steps after which the state is saved at the latest.
    """

    current_score = None  # loggers that upload checkpoints ask for this and `last_model_path`

    def __init__(self, dirpath: str | Path, every_n_steps: int = 500) -> None:
        self.path = Path(dirpath).expanduser().resolve() / "last.ckpt"
        self.last_model_path = str(self.path)
        self.every_n_steps = every_n_steps
        self._signals = StopSignals()
        self._saved_step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out which signals are free, before Lightning takes them."""
        self._signals = StopSignals()

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
        stop = self._asked_to_stop(trainer)
        steps = trainer.global_step - self._saved_step
        if steps and (stop or steps >= self.every_n_steps):
            self._save(trainer)
        self._stop_if(stop)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what the validation is of, unless a resumed run would end before validating it."""
        at_the_end = trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps
        new = self._saved_step != trainer.global_step
        if new and not at_the_end and _between_steps(trainer):
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
        """Stop where asked to, if what is validated has been saved."""
        if self._saved_step == trainer.global_step:
            self._stop_if(self._asked_to_stop(trainer))

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

    def _asked_to_stop(self, trainer: Trainer) -> bool:
        """Whether any process was asked to stop; the same answer in all of them."""
        asked = self._signals.received is not None
        return trainer.strategy.reduce_boolean_decision(asked, all=False)

    def _stop_if(self, stop: bool) -> None:
        """End the process where it is asked for.

        Raises:
            StopRequested: always, if `stop`.
        """
        if stop:
            # The signal may have been sent to another process of the same training.
            request = StopRequested(self._signals.received or signal.SIGTERM)
            _logger.warning("stopped by %s; %s has the state", request.signal.name, self.path)
            raise request


def _between_steps(trainer: Trainer) -> bool:
    """Whether the batch before this moment was an optimizer step's last."""
    batches = trainer.fit_loop.batch_idx + 1
    return batches % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
