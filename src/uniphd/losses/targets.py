"""The targets of a batch side by side, so that matching and losses need no loop over images.

Shapes: B images, N the largest number of people in one of them (at least 1), K = 17 keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uniphd.structures import Size, Target


@dataclass(frozen=True)
class StackedTargets:
    """Targets padded with zeros to the same number of people per image.

    Attributes:
        labels: (B, N) int64.
        boxes: (B, N, 4).
        keypoints: (B, N, K, 2).
        visibility: (B, N, K).
        area: (B, N).
        counts: the number of people of every image; entries behind it are padding.
    """

    labels: Tensor
    boxes: Tensor
    keypoints: Tensor
    visibility: Tensor
    area: Tensor
    counts: tuple[int, ...]


def stack_targets(targets: Sequence[Target]) -> StackedTargets:
    """Everything but the masks."""
    people = max(1, *map(len, targets))
    return StackedTargets(
        labels=_stack([target.labels for target in targets], people),
        boxes=_stack([target.boxes for target in targets], people),
        keypoints=_stack([target.keypoints for target in targets], people),
        visibility=_stack([target.visibility for target in targets], people),
        area=_stack([target.area for target in targets], people),
        counts=tuple(map(len, targets)),
    )


def stack_masks(targets: Sequence[Target], canvas: Size) -> Tensor:
    """Masks at the top left of an empty padded canvas: (B, N, H, W) bool."""
    people = max(1, *map(len, targets))
    masks = targets[0].masks.new_zeros((len(targets), people, *canvas), dtype=torch.bool)
    for image, target in zip(masks, targets, strict=True):
        height, width = target.masks.shape[-2:]
        image[: len(target), :height, :width] = target.masks
    return masks


def count_instances(targets: Sequence[Target]) -> int:
    """Number of annotated people; at least 1."""
    return max(1, sum(map(len, targets)))


def _stack(values: list[Tensor], people: int) -> Tensor:
    stacked = values[0].new_zeros((len(values), people, *values[0].shape[1:]))
    for row, value in zip(stacked, values, strict=True):
        row[: len(value)] = value
    return stacked
