"""Bilinear sampling of maps, and how an exported graph writes it down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Sampling: TypeAlias = Literal["grid_sample", "gather"]
"""The operator of its own, or arithmetic and four gathers."""

SAMPLINGS: tuple[str, ...] = get_args(Sampling)

_exported: ContextVar[Sampling | None] = ContextVar("exported sampling", default=None)


@contextmanager
def exporting(sampling: Sampling) -> Iterator[None]:
    """Trace graphs for other runtimes: the reference operator, and this form of sampling."""
    token = _exported.set(sampling)
    try:
        yield
    finally:
        _exported.reset(token)


def is_exporting() -> bool:
    """Whether a graph is traced that no native operator may be in."""
    return _exported.get() is not None


def sample_bilinear(maps: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
    """`F.grid_sample` with zeros outside, for maps (B, C, h, w) and grids (B, y, x, 2)."""
    if _exported.get() == "gather":
        return sample_by_gather(maps, grid, align_corners)
    return F.grid_sample(
        maps, grid, mode="bilinear", padding_mode="zeros", align_corners=align_corners
    )


def sample_by_gather(maps: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
    """The same by arithmetic: the four cells around every place, weighted by their shares.

    TensorRT 10.13 to 11 compile `GridSample` of decoders like ours wrongly, without a word.
    """
    height, width = maps.shape[-2:]
    x, y = _cells(grid[..., 0], width, align_corners), _cells(grid[..., 1], height, align_corners)
    left, top = x.floor(), y.floor()
    cells = maps.flatten(2)
    total = torch.zeros_like(maps[:, :, :1, :1])
    for column, across in ((left, left + 1 - x), (left + 1, x - left)):
        for row, down in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            index = place.long().flatten(1).unsqueeze(1).expand(-1, cells.shape[1], -1)
            weight = torch.where(inside, across * down, torch.zeros_like(across))
            read = cells.gather(2, index).reshape(*cells.shape[:2], *place.shape[1:])
            total = total + read * weight.unsqueeze(1)
    return total


def _cells(coordinate: Tensor, length: int, align_corners: bool) -> Tensor:
    """From [-1, 1] to cells: -0.5 to length - 0.5, or 0 to length - 1 with `align_corners`."""
    if align_corners:
        return (coordinate + 1) / 2 * (length - 1)
    return ((coordinate + 1) * length - 1) / 2
