"""The weights with which the numbers in this folder were computed, entry by entry."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

DIRECTIONS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))
HEADS = ("class_embed", "bbox_embed", "pose_embed")


def fill(name: str, shape: Sequence[int]) -> Tensor:
    """The value of an entry of the official network's state dict, which has floats."""
    alias, _, rest = name.partition("transformer.decoder.")
    if not alias and rest.startswith(HEADS):
        name = rest  # the decoder holds the heads a second time
    seed = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(tuple(shape), generator=seed)
    if name == "transformer.enc_output.bias":
        return -0.05 * noise  # padded tokens must not be the best ones
    if name.startswith("controller.layers.2."):
        noise = 0.1 * noise  # mask logits of a few units
    if name.endswith("sampling_offsets.bias"):
        return _ring(len(noise)) + 0.5 * noise
    if name.endswith("sampling_offsets.weight"):
        return 0.02 * noise
    if name.endswith("adjacent_matrix"):
        return 0.3 * noise
    if noise.dim() <= 1:
        return 1 + 0.1 * noise if name.endswith("weight") else 0.05 * noise
    if noise.dim() == 2 and "embedding" in name:
        return 0.3 * noise
    return noise / (noise.numel() / len(noise)) ** 0.5


def _ring(length: int) -> Tensor:
    """Offsets of 4 points per level, one direction per head, the farther the later the point."""
    directions = torch.tensor(DIRECTIONS, dtype=torch.float32)
    steps = torch.arange(1.0, 5.0)
    points = directions[:, None, None] * steps[:, None]  # heads, 1, points, xy
    levels = length // points.numel()
    return points.expand(-1, levels, -1, -1).flatten()
