"""Gradients of several batches as if they were one: a mean over people, not over batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class InstanceMean:
    """Keeps the gradients accumulated so far at the mean over all their instances.

    A batch's loss is a sum over its people divided by their number. Adding the gradients of several
    batches with equal weights is the same as one large batch only where the batches are equally
    large, which an epoch's last one is not.

    Attributes:
        instances: () people whose gradients are accumulated; None before the first batch.
    """

    def __init__(self) -> None:
        self.instances: Tensor | None = None

    def restart(self) -> None:
        """Begin anew, with gradients that are zero or None."""
        self.instances = None

    def weigh(self, parameters: Iterable[nn.Parameter], instances: Tensor) -> Tensor:
        """Make room for another batch's gradients.

        Args:
            parameters: whose gradients are scaled, in place.
            instances: () of the batches of all processes, the same number in each.

        Returns:
            () what to multiply the batch's loss by.
        """
        if self.instances is None:
            self.instances = instances
            return torch.ones_like(instances)
        total = self.instances + instances
        gradients = [value.grad for value in parameters if value.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, self.instances / total)
        self.instances = total
        return instances / total
