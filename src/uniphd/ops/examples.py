"""Random inputs of the operators, for the self-test and the benchmarks.

Shape legend: B images, S tokens of all levels, H heads, D channels of a head, Q queries,
L levels, P points per level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from uniphd.ops.ms_deform_attn import ms_deform_attn
from uniphd.ops.reference import accumulation_dtype


@dataclass(frozen=True)
class Example:
    """The inputs of one call and the gradient that its output receives.

    Attributes:
        value: (B, S, H, D).
        shapes: (height, width) of the L levels.
        locations: (B, Q, H, L, P, 2) as (x, y).
        weights: (B, Q, H, L, P), non-negative, summing to 1 over levels and points.
        grad_output: (B, Q, H * D), like the output.
    """

    value: Tensor
    shapes: tuple[tuple[int, int], ...]
    locations: Tensor
    weights: Tensor
    grad_output: Tensor

    def to(self, device: str, dtype: torch.dtype) -> Example:
        """Returns the example on a device, for values of a dtype."""
        sums = accumulation_dtype(dtype)
        return Example(
            value=self.value.to(device, dtype),
            shapes=self.shapes,
            locations=self.locations.to(device, sums),
            weights=self.weights.to(device, sums),
            grad_output=self.grad_output.to(device, dtype),
        )

    def leaves(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns value, locations and weights without history, asking for gradients."""
        value, locations, weights = (
            tensor.detach().requires_grad_()
            for tensor in (self.value, self.locations, self.weights)
        )
        return value, locations, weights

    def forward(self, backend: Literal["native", "reference"]) -> Tensor:
        """Runs the operator without recording gradients; returns (B, Q, H * D)."""
        with torch.no_grad():
            return ms_deform_attn(
                self.value, self.shapes, self.locations, self.weights, backend=backend
            )

    def forward_backward(self, backend: Literal["native", "reference"]) -> tuple[Tensor, ...]:
        """Runs both directions.

        Returns:
            The output and the gradients of value, locations and weights.
        """
        value, locations, weights = self.leaves()
        output = ms_deform_attn(value, self.shapes, locations, weights, backend=backend)
        gradients = torch.autograd.grad(output, (value, locations, weights), self.grad_output)
        return output.detach(), *gradients


def random_example(
    shapes: Sequence[tuple[int, int]],
    *,
    batch: int,
    heads: int,
    channels: int,
    points: int,
    centres: Tensor,
    spread: float,
    seed: int = 0,
) -> Example:
    """Returns float32 inputs on the CPU, the same for the same arguments on every machine.

    Args:
        shapes: (height, width) of the L levels.
        batch: B.
        heads: H.
        channels: D.
        points: P.
        centres: (Q, 2) as (x, y): the points around which the queries sample.
        spread: standard deviation of the samples around them, in cells of each level.
        seed: of the random numbers.
    """
    random = torch.Generator().manual_seed(seed)
    tokens = sum(height * width for height, width in shapes)
    queries, levels = len(centres), len(shapes)
    extent = torch.tensor([(width, height) for height, width in shapes], dtype=torch.float32)
    offsets = torch.randn(batch, queries, heads, levels, points, 2, generator=random)
    logits = torch.randn(batch, queries, heads, levels * points, generator=random)
    return Example(
        value=torch.randn(batch, tokens, heads, channels, generator=random),
        shapes=tuple(shapes),
        locations=centres[:, None, None, None] + offsets * spread / extent[:, None],
        weights=logits.softmax(-1).view(batch, queries, heads, levels, points),
        grad_output=torch.randn(batch, queries, heads * channels, generator=random),
    )
