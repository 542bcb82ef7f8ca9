"""Losses against the official criterion: each alone, all with two auxiliary layers, gradients.

The official visibility loss is divided by the number of instances twice; ours is the plain mean, so
the expected value is multiplied by that number and our weight divided by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parity.comparison import Comparison
from uniphd.losses.criterion import LOSS_NAMES, MatchedMasks, SetCriterion
from uniphd.losses.keypoints import oks_loss
from uniphd.losses.matcher import HungarianMatcher, Match
from uniphd.losses.targets import stack_masks, stack_targets
from uniphd.models.outputs import LayerPrediction
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


def check_losses(npz: Arrays) -> list[Comparison]:
    """Every loss, the weighted total and its gradients for given pairs of queries and people."""
    instances = float(npz["in_num_boxes"])
    targets = _targets(npz)
    stacked = stack_targets(targets)
    criterion = SetCriterion(HungarianMatcher(), _weights(npz, instances), aux_masks=True)
    main = _Output(npz, "in_", npz["in_indices_src"], targets)
    outputs = {"final": main}
    for i, indices in enumerate(npz["in_aux_indices_src"]):
        outputs[f"layer{i}"] = _Output(npz, f"in_aux{i}_", indices, targets)
    losses = {
        f"{name}/{loss}": value
        for name, output in outputs.items()
        for loss, value in criterion.matched_losses(
            output.prediction, stacked, output.match, instances, output.masks
        ).items()
    }
    total = criterion.weighted_total(losses)
    total.backward()
    return [
        *_compare_values(npz, losses, instances),
        Comparison("weighted total", total, npz["out_full_weighted_total"], 1e-4),
        *(
            Comparison(f"gradient of {name}", actual, npz[f"out_grad_{name}"], _ATOL, _RTOL)
            for name, actual in main.gradients().items()
        ),
    ]


def check_oks_loss(npz: Arrays) -> list[Comparison]:
    """The OKS loss alone and its gradient, nobody visible and far away included."""
    predicted = torch.from_numpy(npz["pred"]).requires_grad_()
    target, visibility, area = (torch.from_numpy(npz[name]) for name in ("target", "valid", "area"))
    loss = oks_loss(_points(predicted), _points(target), visibility, area)
    loss.sum().backward()
    return [
        Comparison("loss", loss, npz["out_loss"], 1e-6),
        Comparison("gradient", predicted.grad, npz["out_grad_pred_of_sum"], 1e-6, rtol=1e-5),
    ]


class _Output:
    """One output of the network with its pairs, its inputs kept for their gradients."""

    def __init__(
        self, npz: Arrays, prefix: str, queries: np.ndarray[Any, Any], targets: list[Target]
    ) -> None:
        names = ("logits", "boxes", "keypoints", "keypoints_visi", "masks", "masks_low")
        self.inputs = {
            f"pred_{name}": torch.from_numpy(npz[f"{prefix}pred_{name}"]).requires_grad_()
            for name in names
        }
        logits = self.inputs["pred_logits"]
        images, people = np.nonzero(np.ones_like(queries))
        self.match = Match(
            image=torch.from_numpy(images),
            query=torch.from_numpy(queries.flatten()),
            person=torch.from_numpy(people),
            non_finite=torch.tensor(0),
        )
        unused = logits.new_zeros((*logits.shape[:2], 2))
        self.prediction = LayerPrediction(
            logits=logits,
            boxes=self.inputs["pred_boxes"],
            keypoints=_points(self.inputs["pred_keypoints"]),
            visibility_logits=self.inputs["pred_keypoints_visi"],
            embedding=unused,
            centre=unused,
        )
        full, low = self.inputs["pred_masks"], self.inputs["pred_masks_low"]
        canvas = stack_masks(targets, (full.shape[-2], full.shape[-1]))
        self.masks = MatchedMasks(
            logits=full[self.match.image, self.match.person],
            low_logits=low[self.match.image, self.match.person],
            target=canvas[self.match.image, self.match.person],
        )

    def gradients(self) -> dict[str, Tensor | None]:
        return {name: tensor.grad for name, tensor in self.inputs.items()}


def _compare_values(
    npz: Arrays, losses: Mapping[str, Tensor], instances: float
) -> list[Comparison]:
    comparisons = []
    for name, value in losses.items():
        output, _, loss = name.partition("/")
        factor = instances if loss == "visibility" else 1.0
        suffix = "" if output == "final" else f"_{output.removeprefix('layer')}"
        keys = [f"out_full_{_OFFICIAL_NAMES[loss]}{suffix}"]
        if output == "final":
            keys.append(f"out_single_{_OFFICIAL_NAMES[loss]}")
        comparisons += [
            Comparison(f"{name} ({k})", value, npz[k] * factor, _ATOL, _RTOL) for k in keys
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
