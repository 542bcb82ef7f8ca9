"""Multi-scale deformable attention: one function with a native and a reference implementation.

Deformable DETR (Zhu et al., 2021), equation 3. Shape legend: B images, S tokens of all levels,
H heads, D channels of a head, Q queries, L levels, P points per level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from uniphd.errors import ConfigError
from uniphd.ops.backend import resolve_backend
from uniphd.ops.reference import accumulation_dtype, ms_deform_attn_reference
from uniphd.ops.sampling import is_exporting


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    backend: Literal["native", "reference"] | None = None,
) -> Tensor:
    """Samples every level bilinearly and sums the samples by their attention weights.

    Zeros lie outside a level, and a location ``u`` on an axis of ``n`` cells is pixel
    ``u * n - 0.5`` (``align_corners=False``). Values may be float32, float64, float16 or bfloat16;
    locations and weights are converted to float32 (float64 for float64 values), in which the
    samples are summed.

    Args:
        value: (B, S, H, D), the levels one after the other, each in raster order.
        spatial_shapes: (height, width) of the L levels; their areas sum to S.
        sampling_locations: (B, Q, H, L, P, 2) as (x, y), 0 to 1 inside a level.
        attention_weights: (B, Q, H, L, P).
        backend: which implementation runs; None is the configured one (``UNIPHD_OPS``).

    Returns:
        (B, Q, H * D) in the dtype of ``value``, or of autocast where that is on.

    Raises:
        ValueError: The shapes contradict each other.
        ConfigError: ``backend`` is unknown.
        NativeOpsError: The native operator was asked for and cannot be built.
    """
    _check(value, spatial_shapes, sampling_locations, attention_weights)
    dtype = accumulation_dtype(value.dtype)
    locations = sampling_locations.to(dtype)
    weights = attention_weights.to(dtype)
    if _choose(backend, value.device.type) == "reference":
        return ms_deform_attn_reference(_autocast(value), spatial_shapes, locations, weights)
    shapes, starts = _level_tensors(spatial_shapes, value)
    output: Tensor = torch.ops.uniphd.ms_deform_attn(value, shapes, starts, locations, weights)
    return output


def _choose(backend: str | None, device_type: str) -> str:
    if backend not in (None, "native", "reference"):
        raise ConfigError(f"backend is {backend!r}; it must be None, 'native' or 'reference'")
    if backend == "reference" or is_exporting() or torch.onnx.is_in_onnx_export():
        return "reference"
    chosen: str = resolve_backend(device_type, required=backend is not None)
    return chosen


def _autocast(value: Tensor) -> Tensor:
    """What the native operator's autocast rule does: half precision values, except of float64."""
    device = value.device.type
    if value.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return value
    return value.to(torch.get_autocast_dtype(device))


def _check(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> None:
    if value.dim() != 4:
        raise ValueError(f"value must be (B, S, H, D), its shape is {tuple(value.shape)}")
    batch, tokens, heads, _ = value.shape
    shape = tuple(sampling_locations.shape)
    expected = (batch, heads, len(spatial_shapes), 2)
    if len(shape) != 6 or (shape[0], shape[2], shape[3], shape[5]) != expected:
        raise ValueError(
            f"sampling_locations must be (B, Q, H, L, P, 2) with B, H, L = {expected[:3]}, "
            f"its shape is {shape}"
        )
    if tuple(attention_weights.shape) != shape[:5]:
        raise ValueError(
            f"attention_weights must be {shape[:5]} like sampling_locations, "
            f"its shape is {tuple(attention_weights.shape)}"
        )
    if any(height < 1 or width < 1 for height, width in spatial_shapes):
        raise ValueError(f"spatial_shapes has an empty level: {list(spatial_shapes)}")
    total = sum(height * width for height, width in spatial_shapes)
    if total != tokens:
        levels = list(spatial_shapes)
        raise ValueError(f"value has {tokens} tokens, its levels {levels} have {total}")


_LevelKey = tuple[tuple[tuple[int, int], ...], torch.device]
_LEVELS: dict[_LevelKey, tuple[Tensor, Tensor]] = {}
_LEVELS_KEPT = 256  # image sizes met by one run of multi-scale training stay well below


def _level_tensors(
    spatial_shapes: Sequence[tuple[int, int]], value: Tensor
) -> tuple[Tensor, Tensor]:
    """The (L, 2) sizes and (L,) first tokens of the levels, int64, on the device of ``value``.

    Built once per sizes and device. In a compiled graph, under a tracer's tensors and in a CUDA
    graph that is being captured they are filled in on the device instead, and not kept.
    """
    device = value.device
    if torch.compiler.is_compiling() or type(value) not in (Tensor, Parameter):
        return _fill_levels(spatial_shapes, device)
    key = (tuple((height, width) for height, width in spatial_shapes), device)
    found = _LEVELS.get(key)
    if found is None:
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return _fill_levels(spatial_shapes, device)
        if len(_LEVELS) >= _LEVELS_KEPT:
            _LEVELS.clear()
        with torch.inference_mode(False):  # an inference tensor could not be saved for backward
            shapes = torch.tensor(key[0], dtype=torch.int64)
            areas = shapes.prod(1)
            found = (shapes.to(device), (areas.cumsum(0) - areas).to(device))
        _LEVELS[key] = found
    return found


def _fill_levels(
    spatial_shapes: Sequence[tuple[int, int]], device: torch.device
) -> tuple[Tensor, Tensor]:
    """The same without a copy from the host, and for symbolic sizes too."""
    starts = [0]
    for height, width in spatial_shapes:
        starts.append(starts[-1] + height * width)
    sides = [side for shape in spatial_shapes for side in shape]
    filled = [
        torch.full((1,), number, dtype=torch.int64, device=device) for number in sides + starts[:-1]
    ]
    shapes, level_starts = torch.cat(filled).split([len(sides), len(spatial_shapes)])
    return shapes.view(-1, 2), level_starts
