"""Multi-scale deformable attention in plain PyTorch: the definition the native kernels are held to.

Works on every device and dtype, is differentiable by autograd, and is what ONNX export sees.
Shape legend: B images, S tokens of all levels, H heads, D channels of a head, Q queries,
L levels, P points per level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from uniphd.ops.sampling import sample_bilinear


def accumulation_dtype(value_dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype of locations, weights and sums for values of ``value_dtype``.

    Half precision values are sampled and summed in float32: a location in bfloat16 would be off
    by a third of a cell on an 80 x 80 level.
    """
    return torch.float64 if value_dtype == torch.float64 else torch.float32


def ms_deform_attn_reference(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Samples every level bilinearly and sums the samples by their attention weights.

    Deformable DETR (Zhu et al., 2021), equation 3. Zeros lie outside a level, and a location
    ``u`` on an axis of ``n`` cells is pixel ``u * n - 0.5`` (``align_corners=False``).

    Args:
        value: (B, S, H, D), the levels one after the other, each in raster order.
        spatial_shapes: (height, width) of the L levels; their areas sum to S.
        sampling_locations: (B, Q, H, L, P, 2) as (x, y), 0 to 1 inside a level.
        attention_weights: (B, Q, H, L, P).

    Returns:
        (B, Q, H * D) in the dtype of ``value``.
    """
    batch, _, heads, channels = value.shape
    queries = sampling_locations.shape[1]
    dtype = accumulation_dtype(value.dtype)
    grids = 2.0 * sampling_locations.to(dtype) - 1.0
    weights = attention_weights.to(dtype)
    levels = value.split([height * width for height, width in spatial_shapes], dim=1)
    sampled = []
    for index, (level, (height, width)) in enumerate(zip(levels, spatial_shapes, strict=True)):
        image = level.permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        grid = grids[:, :, :, index].transpose(1, 2).flatten(0, 1)
        sampled.append(sample_bilinear(image.to(dtype), grid, align_corners=False))
    samples = torch.stack(sampled, dim=-2).flatten(-2)
    weights = weights.transpose(1, 2).flatten(-2).flatten(0, 1).unsqueeze(1)
    output = (samples * weights).sum(-1).view(batch, heads * channels, queries)
    return output.transpose(1, 2).contiguous().to(value.dtype)
