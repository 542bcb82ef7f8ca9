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
    columns = _neighbours(_cells(grid[..., 0], width, align_corners), width)
    rows = _neighbours(_cells(grid[..., 1], height, align_corners), height)
    cells = maps.flatten(2)
    total = torch.zeros_like(maps[:, :, :1, :1])
    for column, across in columns:
        for row, down in rows:
            index = (row * width + column).flatten(1).unsqueeze(1).expand(-1, cells.shape[1], -1)
            read = cells.gather(2, index).reshape(*cells.shape[:2], *row.shape[1:])
            total = total + read * (across * down).unsqueeze(1)
    return total


def _neighbours(place: Tensor, length: int) -> list[tuple[Tensor, Tensor]]:
    """The two cells around places on an axis, as int64, and their shares, 0 outside of it.

    A cell is clamped once: onnxscript 0.7 gives clamps of the same value the same name.
    """
    before = place.floor()
    found = []
    for cell, share in ((before, before + 1 - place), (before + 1, place - before)):
        inside = (cell >= 0) & (cell < length)
        share = torch.where(inside, share, torch.zeros_like(share))
        found.append((cell.clamp(0, length - 1).long(), share))
    return found


def _cells(coordinate: Tensor, length: int, align_corners: bool) -> Tensor:
    """From [-1, 1] to cells: -0.5 to length - 0.5, or 0 to length - 1 with `align_corners`."""
    if align_corners:
        return (coordinate + 1) / 2 * (length - 1)
    return ((coordinate + 1) * length - 1) / 2
