"""Everything that leans on Lightning's private attributes; pyproject.toml bounds its version."""

from __future__ import annotations

from lightning import Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn


def logged_step(trainer: Trainer) -> int:
    """The step that Lightning logs metrics at: optimizer steps before the present one."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def count_logged_steps(trainer: Trainer) -> None:
    """Log by optimizer steps from here on; a resumed run may begin off by one."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def restore_loaders(trainer: Trainer) -> None:
    """Tell the training's loader where a resumed epoch goes on, if nobody has.

    Lightning does when it makes the loader, which is too early where a schedule asks for the number
    of batches.
    """
    loop = trainer.fit_loop
    if loop._combined_loader_states_to_load and loop._data_fetcher is not None:
        loop._load_combined_loader_states()
        iter(loop._data_fetcher)


def keep_slurm_from_requeueing(trainer: Trainer) -> None:
    """Call before Lightning takes Slurm's signals; afterwards it leaves them alone."""
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment):
        environment.auto_requeue = False


def forget_from(logger: TensorBoardLogger, step: int) -> None:
    """Let TensorBoard drop what is in the logger's folder from a step on, before it writes."""
    logger._kwargs["purge_step"] = step


def average_model(callback: WeightAveraging) -> nn.Module | None:
    """The averaged network; None before the callback has made it."""
    return callback._average_model
