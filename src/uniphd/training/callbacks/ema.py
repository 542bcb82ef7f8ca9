"""Exponential moving average of the weights: what is validated and what checkpoints are for."""

from __future__ import annotations

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from uniphd.errors import ConfigError
from uniphd.training.lightning_internals import average_model


class ExponentialMovingAverage(WeightAveraging):
    """Averages weights and floating-point buffers after every optimizer step.

    Validation runs on the average, and a checkpoint's `state_dict` holds it, so that `load_model`,
    `uniphd-eval` and `uniphd-convert` use it; the weights in training stand beside it, and resuming
    continues with both. After `fit` the module has the average.

    Lightning's `EMAWeightAveraging` is not used because it also averages integer buffers, in which
    rounding turns an index into the one before it; keeps the average on the CPU while training runs
    on a GPU; and replaces the weights at the end of training before the last checkpoint is written.

    Args:
        decay: share of the average that a step keeps. The average reaches back over about
            1 / (1 - decay) steps. At first it is less, (1 + n) / (10 + n) after n steps, so that
            the average of a short run is not that of its first steps.

    Raises:
        ConfigError: `decay` is not between 0 and 1.
    """

    def __init__(self, decay: float = 0.9997) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"callbacks.ema.decay is {decay}; give a number from 0 to below 1.")
        self._decay = decay
        super().__init__(multi_avg_fn=self._average)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the network to its device; the average was made before the network got there."""
        if (average := average_model(self)) is not None:
            average.to(pl_module.device)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the weights as they are for the last checkpoint, which is written in this hook."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the module the average."""
        super().on_train_end(trainer, pl_module)

    @torch.no_grad()
    def _average(self, averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        """Update averages of one dtype and device in place; integers take the current value."""
        if averages[0].is_floating_point():
            steps = int(count)
            decay = min(self._decay, (1 + steps) / (10 + steps))
            torch._foreach_lerp_(averages, current, 1 - decay)
            return
        for average, value in zip(averages, current, strict=True):
            average.copy_(value)
