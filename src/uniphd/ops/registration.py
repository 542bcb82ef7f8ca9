"""What PyTorch needs to know about the native operators beside their kernels.

Shapes without data (fake tensors: ``torch.compile``, ``torch.export``), gradients, and autocast.
The schemas come from ``csrc/registration.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_Gradients = tuple[Tensor, Tensor, Tensor]
_autocast = torch.library.Library("uniphd", "IMPL")  # kernels live as long as this object


def register_python_parts() -> None:
    """Registers the parts; call it once, after the library with the schemas is loaded."""
    torch.library.register_fake("uniphd::ms_deform_attn", _fake_forward)
    torch.library.register_fake("uniphd::ms_deform_attn_backward", _fake_backward)
    torch.library.register_autograd("uniphd::ms_deform_attn", _backward, setup_context=_save_inputs)
    torch.library.register_autograd("uniphd::ms_deform_attn_backward", _no_second_derivative)
    _autocast.impl("ms_deform_attn", _autocast_kernel("cpu"), "AutocastCPU")
    _autocast.impl("ms_deform_attn", _autocast_kernel("cuda"), "AutocastCUDA")


def _fake_forward(
    value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    batch, _, heads, channels = value.shape
    return value.new_empty((batch, locations.shape[1], heads * channels))


def _fake_backward(
    grad_output: Tensor,
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
) -> _Gradients:
    return (
        value.new_empty(value.shape),
        locations.new_empty(locations.shape),
        weights.new_empty(weights.shape),
    )


def _save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, Tensor, Tensor]:
    grad_value, grad_locations, grad_weights = torch.ops.uniphd.ms_deform_attn_backward(
        grad_output, *ctx.saved_tensors
    )
    return grad_value, None, None, grad_locations, grad_weights


def _no_second_derivative(ctx: Any, *grads: Tensor) -> Any:
    raise NotImplementedError(
        "the native deformable attention has no second derivative; use backend='reference'"
    )


def _autocast_kernel(device_type: str) -> Callable[..., Tensor]:
    """Values in autocast's dtype; locations and weights stay in the dtype of the sums.

    The cast that ``torch.library.register_autocast`` offers is one dtype for all inputs, and
    locations in bfloat16 are off by a third of a cell.
    """

    def kernel(
        value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor
    ) -> Tensor:
        wide = value.dtype == torch.float64
        sums = torch.float64 if wide else torch.float32
        values = value if wide else value.to(torch.get_autocast_dtype(device_type))
        with torch.autocast(device_type, enabled=False):
            output: Tensor = torch.ops.uniphd.ms_deform_attn(
                values, shapes, starts, locations.to(sums), weights.to(sums)
            )
        return output

    return kernel
