"""Losses against the official criterion: each alone, all with two auxiliary layers, gradients.

The official visibility loss is divided by the number of instances twice; ours is the plain mean, so
the expected value is multiplied by that number and our weight divided by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parity.comparison import Comparison
from uniphd.keypoints import COCO17
from uniphd.losses.criterion import LOSS_NAMES, SetCriterion, weighted_total
from uniphd.losses.keypoints import oks_loss
from uniphd.losses.matched_masks import MatchedMasks
from uniphd.losses.matcher import HungarianMatcher, Match
from uniphd.losses.predictions import StackedPredictions
from uniphd.losses.targets import stack_masks, stack_targets
from uniphd.metrics.oks import keypoint_variance
from uniphd.structures import Target

Arrays = Mapping[str, np.ndarray[Any, Any]]

_ATOL, _RTOL = 2e-6, 1e-6  # rounding of float32 sums
_OFFICIAL_NAMES = {
    "class": "loss_ce",
    "box": "loss_bbox",
    "giou": "loss_giou",
    "keypoints": "loss_keypoints",
    "oks": "loss_oks",
    "visibility": "loss_keypoints_visi",
    "mask": "loss_mask",
    "dice": "loss_dice",
    "mask_low": "loss_mask_low",
    "dice_low": "loss_dice_low",
}


_INPUTS = tuple(
    f"pred_{name}"
    for name in ("logits", "boxes", "keypoints", "keypoints_visi", "masks", "masks_low")
)


def check_losses(npz: Arrays) -> list[Comparison]:
    """Every loss, the weighted total and its gradients for given pairs of queries and people."""
    instances = float(npz["in_num_boxes"])
    criterion = SetCriterion(HungarianMatcher(), _weights(npz, instances), aux_masks=True)
    layers = ["in_", *(f"in_aux{i}_" for i in range(len(npz["in_aux_indices_src"])))]
    inputs = [
        {name: torch.from_numpy(npz[prefix + name]).requires_grad_() for name in _INPUTS}
        for prefix in layers
    ]
    outputs, match, masks = _outputs(npz, inputs)
    targets = stack_targets(_targets(npz), criterion.sigmas)
    losses = criterion.matched_losses(outputs, targets, match, instances, masks)
    total = weighted_total(losses, criterion.weights)
    total.backward()
    return [
        *_compare_values(npz, outputs.names, losses, instances),
        Comparison("weighted total", total, npz["out_full_weighted_total"], 1e-4),
        *(
            Comparison(f"gradient of {name}", value.grad, npz[f"out_grad_{name}"], _ATOL, _RTOL)
            for name, value in inputs[0].items()
        ),
    ]


def check_oks_loss(npz: Arrays) -> list[Comparison]:
    """The OKS loss alone and its gradient, nobody visible and far away included."""
    predicted = torch.from_numpy(npz["pred"]).requires_grad_()
    target, visibility, area = (torch.from_numpy(npz[name]) for name in ("target", "valid", "area"))
    variance = keypoint_variance(area, torch.tensor(COCO17.sigmas))
    loss = oks_loss(_points(predicted), _points(target), visibility, variance)
    loss.sum().backward()
    return [
        Comparison("loss", loss, npz["out_loss"], 1e-6),
        Comparison("gradient", predicted.grad, npz["out_grad_pred_of_sum"], 1e-6, rtol=1e-5),
    ]


def _outputs(
    npz: Arrays, inputs: list[dict[str, Tensor]]
) -> tuple[StackedPredictions, Match, MatchedMasks]:
    """The layers side by side, their pairs and their matched queries' masks."""
    values = {name: torch.stack([layer[name] for layer in inputs]) for name in _INPUTS}
    outputs = StackedPredictions(
        names=("final", *(f"layer{i}" for i in range(len(inputs) - 1))),
        logits=values["pred_logits"],
        keypoints=_points(values["pred_keypoints"]),
        boxes=values["pred_boxes"],
        visibility_logits=values["pred_keypoints_visi"],
    )
    queries = np.stack([npz["in_indices_src"], *npz["in_aux_indices_src"]])
    images, people = np.nonzero(np.ones_like(queries[0]))
    canvas = values["pred_masks"].shape[-2:]
    truth = stack_masks(_targets(npz), (canvas[0], canvas[1]))
    match = Match(
        image=torch.from_numpy(images),
        query=torch.from_numpy(queries).flatten(1),
        person=torch.from_numpy(people).expand(len(inputs), -1),
        shape=(*outputs.logits.shape[:3], truth.shape[1]),
        non_finite=torch.tensor(0),
    )
    # The stored masks are those of the matched queries.
    full, low = (values[name][:, images, people] for name in ("pred_masks", "pred_masks_low"))
    return outputs, match, MatchedMasks(full, low, match.people(truth, len(inputs)))


def _compare_values(
    npz: Arrays, outputs: Sequence[str], losses: Mapping[str, Tensor], instances: float
) -> list[Comparison]:
    comparisons = []
    for loss, values in losses.items():
        factor = instances if loss == "visibility" else 1.0
        for output, value in zip(outputs, values, strict=True):
            suffix = "" if output == "final" else f"_{output.removeprefix('layer')}"
            keys = [f"out_full_{_OFFICIAL_NAMES[loss]}{suffix}"]
            if output == "final":
                keys.append(f"out_single_{_OFFICIAL_NAMES[loss]}")
            comparisons += [
                Comparison(f"{output}/{loss} ({k})", value, npz[k] * factor, _ATOL, _RTOL)
                for k in keys
            ]
    return comparisons


def _weights(npz: Arrays, instances: float) -> dict[str, float]:
    official = json.loads(str(npz["weight_dict_json"]))
    weights = {name: float(official[_OFFICIAL_NAMES[name]]) for name in LOSS_NAMES}
    return weights | {"visibility": weights["visibility"] / instances}


def _targets(npz: Arrays) -> list[Target]:
    count = sum(key.startswith("in_target") and key.endswith("_labels") for key in npz)
    return [_target(npz, f"in_target{i}_") for i in range(count)]


def _target(npz: Arrays, prefix: str) -> Target:
    names = ("labels", "boxes", "keypoints", "area", "masks")
    values = {name: torch.from_numpy(npz[prefix + name]) for name in names}
    keypoints = values.pop("keypoints")
    return Target(keypoints=_points(keypoints), visibility=keypoints[..., 34:], **values)


def _points(numbers: Tensor) -> Tensor:
    """The official layout x1 y1 ... x17 y17 (and 17 more numbers) as (..., 17, 2)."""
    return numbers[..., :34].reshape(*numbers.shape[:-1], 17, 2)


CHECKS: dict[str, Callable[[Arrays], list[Comparison]]] = {
    "losses": check_losses,
    "oks_loss": check_oks_loss,
}
