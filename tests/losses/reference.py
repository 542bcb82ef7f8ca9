"""The criterion as loops over outputs, images, queries and people; nothing is shared with it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from uniphd.losses.matcher import HungarianMatcher
from uniphd.models.mask_head import MaskHead
from uniphd.models.outputs import LayerPrediction, Predictions, SelectionPrediction
from uniphd.structures import Target

SIGMAS = torch.tensor(
    (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)
) / 1000  # COCO  # fmt: skip


def focal(logit: Tensor, positive: Tensor) -> Tensor:
    """Elementwise, alpha 0.25 and gamma 2; `positive` is 1 or 0."""
    p = logit.sigmoid()
    rising = -0.25 * (1 - p) ** 2 * F.logsigmoid(logit)
    falling = -0.75 * p**2 * F.logsigmoid(-logit)
    return positive * rising + (1 - positive) * falling


def dice(logits: Tensor, mask: Tensor) -> Tensor:
    p, t = logits.sigmoid().flatten(), mask.float().flatten()
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """1 - generalised IoU of two boxes (4,)."""
    ax1, ay1, ax2, ay2 = a[0] - a[2] / 2, a[1] - a[3] / 2, a[0] + a[2] / 2, a[1] + a[3] / 2
    bx1, by1, bx2, by2 = b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    union = a[2] * a[3] + b[2] * b[3] - width * height
    hull = torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)
    hull = hull * (torch.maximum(ay2, by2) - torch.minimum(ay1, by1))
    return 1 - width * height / (union + 1e-6) + (hull - union) / (hull + 1e-6)


def pose(points: Tensor, target: Target, person: int) -> tuple[Tensor, Tensor]:
    """L1 and 1 - OKS of keypoints (17, 2)."""
    offset, visible = points - target.keypoints[person], target.visibility[person]
    l1 = (offset.abs().sum(-1) * visible).sum()
    variance = target.area[person] * (2 * SIGMAS) ** 2
    oks = (torch.exp(-offset.square().sum(-1) / (2 * variance)) * visible).sum()
    return l1, 1 - (oks / (visible.sum() + 1e-6)).clamp(min=1e-6)


def pair_cost(
    matcher: HungarianMatcher,
    output: LayerPrediction | SelectionPrediction,
    index: tuple[int, int],
    target: Target,
    person: int,
    low: tuple[Tensor, Tensor] | None,
) -> Tensor:
    logit = output.logits[index][target.labels[person]]
    l1, oks = pose(output.keypoints[index], target, person)
    cost = matcher.class_cost * (focal(logit, torch.ones(())) - focal(logit, torch.zeros(())))
    cost = cost + matcher.keypoint_cost * l1 + matcher.oks_cost * oks
    if isinstance(output, LayerPrediction):
        box, true_box = output.boxes[index], target.boxes[person]
        cost = cost + matcher.box_cost * (box - true_box).abs().sum()
        cost = cost + matcher.giou_cost * giou(box, true_box)
    else:
        centre = output.keypoints[index].mean(0)
        cost = cost + matcher.centre_cost * (centre - target.boxes[person, :2]).abs().sum()
    if low is not None:
        logits, mask = low
        cost = cost + matcher.mask_cost * focal(logits, mask.float()).mean()
        cost = cost + matcher.dice_cost * dice(logits, mask)
    return cost


def cheapest(cost: Tensor) -> list[tuple[int, int]]:
    """Pairs (query, person) of a cost (Q, N), by trying all."""
    queries, people = cost.shape
    if people > queries:
        return [(query, person) for person, query in cheapest(cost.T)]
    options = itertools.permutations(range(queries), people)
    best = min(options, key=lambda chosen: sum(float(cost[q, n]) for n, q in enumerate(chosen)))
    return [(query, person) for person, query in enumerate(best)]


def criterion(
    matcher: HungarianMatcher,
    weights: Mapping[str, float],
    aux_masks: bool,
    predictions: Predictions,
    targets: Sequence[Target],
    mask_head: MaskHead | None,
    num_instances: float,
) -> tuple[Tensor, dict[str, Tensor], int]:
    """Weighted total, losses by "output/name", and how many costs are not finite."""
    *earlier, final = predictions.layers
    outputs: dict[str, LayerPrediction | SelectionPrediction] = {"final": final}
    outputs |= {f"layer{i}": layer for i, layer in enumerate(earlier)}
    outputs["selection"] = predictions.selection
    losses: dict[str, Tensor] = {}
    broken = 0
    for name, output in outputs.items():
        full = low = None
        layer = output if isinstance(output, LayerPrediction) else None
        if mask_head is not None and layer is not None and (name == "final" or aux_masks):
            features = predictions.mask_features
            coarse = layer.coarse_masks
            if coarse is None:
                coarse = mask_head.coarse(features, layer.embedding, layer.centre)
            full = mask_head.refine(features, coarse).float()
            low = mask_head.low_resolution(coarse).float()
        sums: dict[str, list[Tensor]] = {n: [] for n in weights}
        one_hot = torch.zeros_like(output.logits)
        widest = max(1, *map(len, targets))
        for image, target in enumerate(targets):
            masks = torch.zeros(len(target), 1, 1)
            if full is not None:
                masks = torch.zeros(len(target), *full.shape[-2:])
                masks[:, : target.masks.shape[1], : target.masks.shape[2]] = target.masks
            small = masks[:, 1::2, 1::2]
            cost = torch.zeros(output.logits.shape[1], len(target))
            for q, n in itertools.product(*map(range, cost.shape)):
                pair = None if low is None else (low[image, q], small[n])
                cost[q, n] = pair_cost(matcher, output, (image, q), target, n, pair).detach()
            broken += int((~cost.isfinite()).sum())
            for q in range(output.logits.shape[1]):  # places of people that are not there
                row = [output.logits[image, q], output.keypoints[image, q]]
                row += [] if layer is None else [layer.boxes[image, q]]
                bad = any(not bool(value.isfinite().all()) for value in row)
                broken += bad * (widest - len(target))
            for q, n in cheapest(torch.where(cost.isfinite(), cost, 1e6)):
                one_hot[image, q, target.labels[n]] = 1
                l1, oks = pose(output.keypoints[image, q], target, n)
                found = {"keypoints": l1, "oks": oks}
                if layer is not None:
                    box, true_box = layer.boxes[image, q], target.boxes[n]
                    found["box"] = (box - true_box).abs().sum()
                    found["giou"] = giou(box, true_box)
                    found["visibility"] = F.binary_cross_entropy_with_logits(
                        layer.visibility_logits[image, q], target.visibility[n]
                    )
                if full is not None and low is not None:
                    found["mask"] = focal(full[image, q], masks[n]).mean()
                    found["dice"] = dice(full[image, q], masks[n])
                    found["mask_low"] = focal(low[image, q], small[n]).mean()
                    found["dice_low"] = dice(low[image, q], small[n])
                for loss, value in found.items():
                    if loss in sums:
                        sums[loss].append(value)
        for loss, values in sums.items():
            pairs = max(len(values), 1)
            divisor = pairs if loss == "visibility" else num_instances
            if values:
                losses[f"{name}/{loss}"] = torch.stack(values).sum() / divisor
        losses[f"{name}/class"] = focal(output.logits, one_hot).sum() / num_instances
    total = torch.stack([weights[n.partition("/")[2]] * v for n, v in losses.items()]).sum()
    return total, losses, broken
