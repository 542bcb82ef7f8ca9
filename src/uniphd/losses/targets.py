"""The targets of a batch side by side, so that matching and losses need no loop over images.

Shapes: B images, N the largest number of people in one of them (at least 1), K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from uniphd.metrics.oks import keypoint_variance
from uniphd.structures import Size, Target


@dataclass(frozen=True)
class StackedTargets:
    """Targets padded with zeros to the same number of people per image.

    Attributes:
        labels: (B, N) int64.
        boxes: (B, N, 4).
        keypoints: (B, N, K, 2).
        visibility: (B, N, K).
        variance: (B, N, K) of the keypoints' positions in OKS.
        counts: the number of people of every image; entries behind it are padding.
    """

    labels: Tensor
    boxes: Tensor
    keypoints: Tensor
    visibility: Tensor
    variance: Tensor
    counts: tuple[int, ...]


def stack_targets(targets: Sequence[Target], sigmas: Tensor) -> StackedTargets:
    """Everything but the masks; `sigmas` are the keypoints' OKS constants (K,)."""
    return StackedTargets(
        labels=_stack([target.labels for target in targets]),
        boxes=_stack([target.boxes for target in targets]),
        keypoints=_stack([target.keypoints for target in targets]),
        visibility=_stack([target.visibility for target in targets]),
        variance=keypoint_variance(_stack([target.area for target in targets]), sigmas),
        counts=tuple(map(len, targets)),
    )


def stack_masks(targets: Sequence[Target], canvas: Size) -> Tensor:
    """Masks at the top left of an empty padded canvas: (B, N, H, W) bool."""
    masks = [target.masks.bool() for target in targets]
    borders = [(0, canvas[1] - mask.shape[-1], 0, canvas[0] - mask.shape[-2]) for mask in masks]
    return _stack([F.pad(mask, border) for mask, border in zip(masks, borders, strict=True)])


def count_instances(targets: Sequence[Target]) -> int:
    """Number of annotated people; at least 1."""
    return max(1, sum(map(len, targets)))


def _stack(values: list[Tensor]) -> Tensor:
    """Values of N_i people each as (B, N, ...), padded with zeros; N is at least 1."""
    stacked = pad_sequence(values, batch_first=True)
    return stacked if stacked.shape[1] else stacked.new_zeros(len(values), 1, *stacked.shape[2:])
