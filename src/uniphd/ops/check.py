"""The self-test of an installation: native operators against the reference, on this machine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uniphd.ops.examples import Example, random_example

PARTS = ("output", "value", "locations", "weights")

# Allowed error as a fraction of the largest number of a tensor: a few roundings of the type in
# which samples are summed, or one of the type in which the result is stored.
TOLERANCES = {
    torch.float32: 1e-5,
    torch.float64: 1e-12,
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
}


@dataclass(frozen=True)
class CheckResult:
    """Native against reference for one device and dtype.

    Attributes:
        device: "cpu" or "cuda".
        dtype: of the values, such as "float32".
        errors: largest difference of the output and of the three gradients, each divided by the
            largest absolute number of the reference.
        tolerance: the largest error that is accepted.
    """

    device: str
    dtype: str
    errors: dict[str, float]
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every error is a number within the tolerance."""
        return all(error <= self.tolerance for error in self.errors.values())


def check_native(device: str, dtype: torch.dtype) -> CheckResult:
    """Compares the native operators with the reference in float64 for the same rounded inputs.

    Odd sizes, a level of one cell, points outside, and channels that fill no vector.

    Args:
        device: "cpu" or "cuda".
        dtype: of the values; a key of ``TOLERANCES``.

    Raises:
        NativeOpsError: The native operators cannot be built or loaded.
    """
    example = _example().to(device, dtype)
    native = example.forward_backward("native")
    expected = _widened(example).forward_backward("reference")
    errors = {
        part: _relative_error(got, wanted)
        for part, got, wanted in zip(PARTS, native, expected, strict=True)
    }
    return CheckResult(device, str(dtype).removeprefix("torch."), errors, TOLERANCES[dtype])


def _example() -> Example:
    return random_example(
        ((13, 9), (6, 5), (1, 1)),
        batch=2,
        heads=3,
        channels=37,
        points=4,
        centres=torch.rand(29, 2, generator=torch.Generator().manual_seed(1)) * 1.2 - 0.1,
        spread=1.0,
    )


def _widened(example: Example) -> Example:
    return example.to(example.value.device.type, torch.float64)


def _relative_error(got: Tensor, wanted: Tensor) -> float:
    return float((got.double() - wanted).abs().max() / wanted.abs().max())
