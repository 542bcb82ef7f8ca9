"""Lightning's progress counters, put into the few states from which it resumes without a mistake.

Lightning stores its counters as they are at the moment of saving and concludes from them where in
its loops that was. From several moments (the end of an epoch without validation, the step before
a validation, a run that ends with an epoch) it then leaves out a validation or most of an epoch.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from lightning import Trainer

from uniphd.data.resumable import ResumableLoader
from uniphd.training.lightning_internals import count_logged_steps, restore_loaders

_COUNTERS = ("ready", "started", "processed", "completed")


def repair_counters(fit_loop: MutableMapping[str, Any], validating: bool, validated: bool) -> None:
    """Let a checkpoint's counters say one of: at a step, before a validation, at an epoch's start.

    Args:
        fit_loop: `checkpoint["loops"]["fit_loop"]`, changed in place. It is of a moment between two
            optimizer steps; the next batch may have been loaded.
        validating: whether a validation has begun after the last step.
        validated: whether a validation has ended after the last step.
    """
    batches = fit_loop["epoch_loop.batch_progress"]
    epochs = fit_loop["epoch_progress"]
    validation = fit_loop["epoch_loop.val_loop.batch_progress"]
    done = batches["current"]["processed"]
    ended = batches["is_last_batch"] and batches["current"]["ready"] == done
    waiting = validating and not validated
    next_epoch = ended and not waiting
    for part in ("total", "current"):
        _set(batches[part], batches[part]["processed"])
        _set(epochs[part], epochs[part]["ready"] - (0 if next_epoch else 1))
        _set(validation[part], 0)
    batches["is_last_batch"] = ended and waiting
    validation["is_last_batch"] = False
    if next_epoch:
        done = 0
        _set(batches["current"], 0)
    else:
        for part in ("total", "current"):  # begun
            epochs[part]["ready"] += 1
            epochs[part]["started"] += 1
    for loader in fit_loop["state_dict"].get("combined_loader", []):
        loader["batches"] = done  # the next one may have been handed out already
        loader["ahead"] = 0 if next_epoch else loader.get("ahead", 0)
    if not validated:  # what Lightning takes for an interrupted validation, where one is due
        validation["total"].update(ready=1, started=1)


def count_batches_anew(trainer: Trainer) -> None:
    """Count the batches of a resumed epoch in those of this run, which may have another size.

    Args:
        trainer: whose training is about to start.
    """
    restore_loaders(trainer)
    if not trainer.fit_loop.epoch_loop.restarting:  # else Lightning adds what is missing
        count_logged_steps(trainer)
    loader, progress = trainer.train_dataloader, trainer.fit_loop.epoch_loop.batch_progress
    if not isinstance(loader, ResumableLoader) or loader.resumed_at == progress.current.ready:
        return
    last = int(trainer.num_training_batches) - 1  # behind a new limit, the epoch ends with one more
    done = loader.resumed_at if progress.is_last_batch else min(loader.resumed_at, last)
    for counter in _COUNTERS:
        setattr(progress.current, counter, done)


def _set(counters: MutableMapping[str, int], number: int) -> None:
    """Say that so many are complete and none is under way."""
    counters.update(dict.fromkeys(_COUNTERS, number))
