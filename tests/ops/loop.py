"""Calls of the operator that are hard on a kernel, and the operator as an obvious loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Shapes = Sequence[tuple[int, int]]
ODD: Shapes = ((7, 5), (4, 3), (1, 1), (1, 6))


class Call(NamedTuple):
    """Arguments of ``ms_deform_attn``."""

    value: Tensor
    shapes: Shapes
    locations: Tensor
    weights: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.value, self.locations, self.weights

    def to(self, value: torch.dtype, sums: torch.dtype) -> Call:
        """The call for other dtypes."""
        return Call(
            self.value.to(value), self.shapes, self.locations.to(sums), self.weights.to(sums)
        )

    def leaves(self) -> Call:
        """The call with tensors that ask for gradients; their strides are kept."""
        value, locations, weights = (tensor.detach().requires_grad_() for tensor in self.tensors)
        return Call(value, self.shapes, locations, weights)


def make_call(
    shapes: Shapes = ODD,
    *,
    batch: int = 2,
    queries: int = 11,
    heads: int = 3,
    channels: int = 8,
    points: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Call:
    """Random inputs; about a third of the points lie outside, some of them far away."""
    random = np.random.default_rng(seed)
    tokens = sum(height * width for height, width in shapes)
    samples = (batch, queries, heads, len(shapes), points)
    locations = random.uniform(-0.15, 1.15, (*samples, 2))
    locations[random.random(samples) < 0.05] = (-3.0, 40.0)
    return Call(
        torch.from_numpy(random.normal(size=(batch, tokens, heads, channels))).to(dtype),
        shapes,
        torch.from_numpy(locations).to(dtype),
        torch.from_numpy(random.uniform(-0.2, 1.0, samples)).to(dtype),
    )


def op_arguments(call: Call) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The call as ``torch.ops.uniphd.ms_deform_attn`` takes it."""
    starts = np.cumsum([0, *(height * width for height, width in call.shapes)])[:-1]
    return (
        call.value,
        torch.tensor(call.shapes, dtype=torch.int64),
        torch.tensor(starts, dtype=torch.int64),
        call.locations,
        call.weights,
    )


def loop(call: Call) -> np.ndarray:
    """Equation 3 of Deformable DETR, one sample and one corner at a time."""
    value, locations, weights = (tensor.double().numpy() for tensor in call.tensors)
    batch, queries, heads, levels, points, _ = locations.shape
    channels = value.shape[3]
    output = np.zeros((batch, queries, heads, channels))
    for b, q, h, level, p in np.ndindex(batch, queries, heads, levels, points):
        height, width = call.shapes[level]
        first = sum(rows * columns for rows, columns in call.shapes[:level])
        x = locations[b, q, h, level, p, 0] * width - 0.5
        y = locations[b, q, h, level, p, 1] * height - 0.5
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(x - column)) * (1 - abs(y - row))
                    cell = value[b, first + row * width + column, h]
                    output[b, q, h] += weights[b, q, h, level, p] * share * cell
    return output.reshape(batch, queries, heads * channels)
