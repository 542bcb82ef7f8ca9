"""Gradient norms of the network and of its parts, in the steps that are logged."""

from __future__ import annotations

from typing import cast

from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from uniphd.training.logged_steps import is_logged
from uniphd.training.step_log import StepLog


class GradientNorm(Callback):
    """Logs `grad_norm/total` and `grad_norm/<part>`, before clipping.

    Nothing is computed in the steps between two logged ones (`trainer.log_every_n_steps`).
    """

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Log the norms of the gradients that the optimizer is about to use."""
        if is_logged(trainer):
            norms = gradient_norms(cast(nn.Module, pl_module.model))
            log = StepLog()
            log.add({f"grad_norm/{name}": norm for name, norm in norms.items()})
            pl_module.log_dict(log.read())


def gradient_norms(model: nn.Module) -> dict[str, Tensor]:
    """L2 norms () of the gradients of a network's parts, and of all of them as `total`.

    Args:
        model: its children are the parts; parts without a gradient are left out.
    """
    norms: dict[str, Tensor] = {}
    for name, part in model.named_children():
        gradients = [value.grad for value in part.parameters() if value.grad is not None]
        if gradients:
            norms[name] = get_total_norm(gradients)
    return {**norms, "total": get_total_norm(list(norms.values()))}
