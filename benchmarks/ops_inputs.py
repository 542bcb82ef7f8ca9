"""Inputs of deformable attention as an image of 640 x 640 pixels gives them in UniPHD."""

from __future__ import annotations

import torch

from uniphd.ops.examples import Example, random_example

SHAPES = ("encoder", "decoder")
_LEVELS = ((80, 80), (40, 40), (20, 20), (10, 10))  # strides 8 to 64
_DECODER_QUERIES = 360  # 20 groups of 17 keypoints and an instance
_SPREAD = 2.0  # cells; the offsets of an untrained network lie 1 to 4 cells away


def make_example(shape: str, batch: int = 1) -> Example:
    """Float32 inputs on the CPU, with 8 heads of 32 channels and 4 points.

    Args:
        shape: "encoder" (8500 queries, each samples around its own cell) or "decoder" (360 queries,
            which sample anywhere).
        batch: number of images.
    """
    if shape == "encoder":
        grids = [
            torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w).flip(1)
            for h, w in _LEVELS
        ]
        centres = torch.cat(grids)
    else:
        centres = torch.rand(_DECODER_QUERIES, 2, generator=torch.Generator().manual_seed(0))
    return random_example(
        _LEVELS, batch=batch, heads=8, channels=32, points=4, centres=centres, spread=_SPREAD
    )
