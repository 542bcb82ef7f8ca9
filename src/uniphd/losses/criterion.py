"""The training loss: every output of the network against the people annotated in the batch.

Shapes: B images, Q queries, N people at most in one image, M matched pairs, H x W padded canvas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from uniphd.errors import ConfigError
from uniphd.losses.boxes import box_l1_loss, giou_loss
from uniphd.losses.focal import class_loss
from uniphd.losses.keypoints import keypoint_l1_loss, oks_loss, visibility_loss
from uniphd.losses.masks import dice_loss, half_resolution, mask_focal_loss
from uniphd.losses.matcher import HungarianMatcher, Match
from uniphd.losses.precision import without_autocast
from uniphd.losses.targets import StackedTargets, stack_masks, stack_targets
from uniphd.models.outputs import LayerPrediction, MaskFeatures, Predictions, SelectionPrediction
from uniphd.structures import Target

MASK_LOSSES = ("mask", "dice", "mask_low", "dice_low")
LOSS_NAMES = ("class", "box", "giou", "keypoints", "oks", "visibility", *MASK_LOSSES)

# The official configuration. Its visibility weight is 4 on a loss that it divides by the number of
# instances once more, which is 1 on the plain mean at the official 4 images per GPU.
OFFICIAL_WEIGHTS: Mapping[str, float] = {
    "class": 2.0, "box": 5.0, "giou": 2.0, "keypoints": 10.0, "oks": 4.0, "visibility": 1.0,
    "mask": 2.0, "dice": 5.0, "mask_low": 2.0, "dice_low": 5.0,
}  # fmt: skip


class MaskHead(Protocol):
    """What the criterion asks of the model's mask head; masks are made for chosen queries only."""

    def coarse(self, features: MaskFeatures, embedding: Tensor, centre: Tensor) -> Tensor:
        """(B, N, C) embeddings and (B, N, 2) centres -> (B, N, 16, h8, w8) maps at stride 8."""
        ...

    def low_resolution(self, coarse: Tensor) -> Tensor:
        """(B, N, 16, h8, w8) -> (B, N, H / 2, W / 2) logits."""
        ...

    def refine(self, features: MaskFeatures, coarse: Tensor) -> Tensor:
        """(B, N, 16, h8, w8) -> (B, N, H, W) logits."""
        ...


@dataclass(frozen=True)
class MatchedMasks:
    """Mask logits of the matched queries and what they shall be.

    Attributes:
        logits: (M, H, W).
        low_logits: (M, H / 2, W / 2).
        target: (M, H, W) bool, zero on padding.
    """

    logits: Tensor
    low_logits: Tensor
    target: Tensor


@dataclass(frozen=True)
class CriterionResult:
    """What one step's loss consists of.

    Attributes:
        total: () the weighted sum, to call `backward` on.
        losses: unweighted values by "output/loss", such as "final/class", detached.
        non_finite_costs: () int64, how many matching costs were NaN or infinite.
    """

    total: Tensor
    losses: dict[str, Tensor]
    non_finite_costs: Tensor


class SetCriterion(nn.Module):
    """Matches every output to the targets and sums its weighted losses.

    The final layer gets every loss, the layers before it all but the masks' unless `aux_masks`, the
    encoder's selection class, keypoints and OKS.

    Args:
        matcher: pairs queries and people, for each output anew.
        weights: weight per name in `LOSS_NAMES`; a loss of weight 0, or without one, is dropped.
            Without mask weights the mask head is never called.
        aux_masks: also supervise the masks of the layers before the last.

    Raises:
        ConfigError: a weight is negative or belongs to no loss, or all are 0.
    """

    def __init__(
        self,
        matcher: HungarianMatcher,
        weights: Mapping[str, float] = OFFICIAL_WEIGHTS,
        aux_masks: bool = False,
    ) -> None:
        super().__init__()
        if unknown := sorted(set(weights) - set(LOSS_NAMES)):
            raise ConfigError(f"loss weights {unknown} are unknown; known are {list(LOSS_NAMES)}.")
        if negative := sorted(name for name, weight in weights.items() if weight < 0):
            raise ConfigError(f"loss weights {negative} are negative; use 0 to drop a loss.")
        self.matcher = matcher
        if not any(weights.values()):
            raise ConfigError("every loss weight is 0; give at least one loss a weight.")
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}
        self.aux_masks = aux_masks
        self.uses_masks = any(name in self.weights for name in MASK_LOSSES)

    def forward(
        self,
        predictions: Predictions,
        targets: Sequence[Target],
        mask_head: MaskHead | None,
        num_instances: float | Tensor,
    ) -> CriterionResult:
        """Loss of a batch.

        Args:
            predictions: the network's answer.
            targets: one per image, on the predictions' device.
            mask_head: the model's; may be None where no mask loss has a weight.
            num_instances: what sums are divided by, see `losses.targets.count_instances`.

        Raises:
            ConfigError: there is a mask loss but no mask head.
        """
        if self.uses_masks and mask_head is None:
            raise ConfigError(
                "the model has no mask head but the mask losses have weights; use loss=no_mask."
            )
        stacked = stack_targets(targets)
        *earlier, final = predictions.layers
        outputs: dict[str, LayerPrediction | SelectionPrediction] = {
            "final": final,
            **{f"layer{i}": layer for i, layer in enumerate(earlier)},
            "selection": predictions.selection,
        }
        losses: dict[str, Tensor] = {}
        non_finite: list[Tensor] = []
        for name, output in outputs.items():
            masks: MatchedMasks | None = None
            supervise_masks = self.uses_masks and (output is final or self.aux_masks)
            if mask_head is not None and supervise_masks and isinstance(output, LayerPrediction):
                match, masks = _match_with_masks(
                    self.matcher, output, predictions.mask_features, mask_head, targets, stacked
                )
            else:
                match = self.matcher(output, stacked)
            matched = self.matched_losses(output, stacked, match, num_instances, masks)
            losses |= {f"{name}/{loss}": value for loss, value in matched.items()}
            non_finite.append(match.non_finite)
        return CriterionResult(
            total=self.weighted_total(losses),
            losses={name: value.detach() for name, value in losses.items()},
            non_finite_costs=torch.stack(non_finite).sum(),
        )

    def matched_losses(
        self,
        output: LayerPrediction | SelectionPrediction,
        targets: StackedTargets,
        match: Match,
        num_instances: float | Tensor,
        masks: MatchedMasks | None = None,
    ) -> dict[str, Tensor]:
        """Unweighted losses of one output for given pairs; the names that have a weight.

        Args:
            output: a decoder layer's prediction, or the encoder's selection.
            targets: the batch's people.
            match: which query answers for whom.
            num_instances: divisor of every sum; the visibility loss is a mean.
            masks: the matched queries' masks, where they are supervised.
        """
        with without_autocast(output.logits.device):
            losses = _common_losses(output, targets, match)
            if isinstance(output, LayerPrediction):
                losses |= _box_losses(output, targets, match)
            if masks is not None:
                losses |= _mask_losses(masks)
            losses = {name: value.sum() / num_instances for name, value in losses.items()}
            if isinstance(output, LayerPrediction):
                losses["visibility"] = visibility_loss(
                    output.visibility_logits[match.image, match.query],
                    targets.visibility[match.image, match.person],
                )
        return {name: value for name, value in losses.items() if name in self.weights}

    def weighted_total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Sum of losses named "output/loss", each times the weight of its loss."""
        return torch.stack(
            [self.weights[name.rpartition("/")[2]] * value for name, value in losses.items()]
        ).sum()


def _common_losses(
    output: LayerPrediction | SelectionPrediction, targets: StackedTargets, match: Match
) -> dict[str, Tensor]:
    one_hot = torch.zeros_like(output.logits)
    one_hot[match.image, match.query, targets.labels[match.image, match.person]] = 1
    keypoints = output.keypoints[match.image, match.query]
    true_keypoints = targets.keypoints[match.image, match.person]
    visibility = targets.visibility[match.image, match.person]
    area = targets.area[match.image, match.person]
    return {
        "class": class_loss(output.logits, one_hot),
        "keypoints": keypoint_l1_loss(keypoints, true_keypoints, visibility),
        "oks": oks_loss(keypoints, true_keypoints, visibility, area),
    }


def _box_losses(
    output: LayerPrediction, targets: StackedTargets, match: Match
) -> dict[str, Tensor]:
    boxes = output.boxes[match.image, match.query]
    true_boxes = targets.boxes[match.image, match.person]
    return {"box": box_l1_loss(boxes, true_boxes), "giou": giou_loss(boxes, true_boxes)}


def _mask_losses(masks: MatchedMasks) -> dict[str, Tensor]:
    low_target = half_resolution(masks.target)
    return {
        "mask": mask_focal_loss(masks.logits, masks.target),
        "dice": dice_loss(masks.logits, masks.target),
        "mask_low": mask_focal_loss(masks.low_logits, low_target),
        "dice_low": dice_loss(masks.low_logits, low_target),
    }


def _match_with_masks(
    matcher: HungarianMatcher,
    output: LayerPrediction,
    features: MaskFeatures,
    mask_head: MaskHead,
    targets: Sequence[Target],
    stacked: StackedTargets,
) -> tuple[Match, MatchedMasks]:
    """Match on coarse masks of all queries, then refine the matched ones only."""
    coarse = output.coarse_masks
    if coarse is None:
        coarse = mask_head.coarse(features, output.embedding, output.centre)
    low_logits = mask_head.low_resolution(coarse)
    height, width = low_logits.shape[-2:]
    masks = stack_masks(targets, (2 * height, 2 * width))
    match = matcher(output, stacked, low_logits.detach(), half_resolution(masks))
    # One slot per image and person; slots without a pair hold query 0 and are not read.
    slots = torch.zeros_like(stacked.labels)
    slots[match.image, match.person] = match.query
    rows = torch.arange(len(slots), device=slots.device)[:, None]
    refined = mask_head.refine(features, coarse[rows, slots])
    return match, MatchedMasks(
        logits=refined[match.image, match.person],
        low_logits=low_logits[match.image, match.query],
        target=masks[match.image, match.person],
    )
