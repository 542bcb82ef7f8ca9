"""The training loss: every output of the network against the people annotated in the batch.

Shapes: O supervised outputs, the first L of them decoder layers, B images, Q queries, N people at
most in one image, M matched pairs of an output, K keypoints, H x W padded canvas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from uniphd.errors import ConfigError
from uniphd.keypoints import COCO17, keypoint_schema
from uniphd.losses.boxes import box_l1_loss, giou_loss
from uniphd.losses.focal import class_loss
from uniphd.losses.keypoints import keypoint_l1_loss, oks_loss, visibility_loss
from uniphd.losses.masks import dice_loss, half_resolution, mask_focal_loss
from uniphd.losses.matcher import HungarianMatcher, Match, take
from uniphd.losses.precision import without_autocast
from uniphd.losses.predictions import StackedPredictions, stack_predictions
from uniphd.losses.targets import StackedTargets, stack_masks, stack_targets
from uniphd.models.outputs import MaskFeatures, Predictions
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
    """Mask logits of the first S outputs' matched queries and what they shall be.

    Attributes:
        logits: (S, M, H, W).
        low_logits: (S, M, H / 2, W / 2).
        target: (S, M, H, W) bool, zero on padding.
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
        keypoints: name of the keypoint set, whose sigmas OKS takes.

    Raises:
        ConfigError: a weight is negative or belongs to no loss, or all are 0.
    """

    def __init__(
        self,
        matcher: HungarianMatcher,
        weights: Mapping[str, float] = OFFICIAL_WEIGHTS,
        aux_masks: bool = False,
        keypoints: str = COCO17.name,
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
        self.schema = keypoint_schema(keypoints)
        self.sigmas: Tensor
        self.register_buffer("sigmas", torch.tensor(self.schema.sigmas), persistent=False)

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
        stacked = stack_targets(targets, self.sigmas)
        outputs = stack_predictions(predictions)
        masks: MatchedMasks | None = None
        if mask_head is not None and self.uses_masks:
            match, masks = self._match_with_masks(predictions, outputs, mask_head, targets, stacked)
        else:
            match = self.matcher(outputs, stacked)
        losses = self.matched_losses(outputs, stacked, match, num_instances, masks)
        return CriterionResult(
            total=self.weighted_total(losses),
            losses={
                f"{output}/{name}": value
                for name, values in losses.items()
                for output, value in zip(outputs.names, values.detach().unbind(), strict=False)
            },
            non_finite_costs=match.non_finite,
        )

    def matched_losses(
        self,
        outputs: StackedPredictions,
        targets: StackedTargets,
        match: Match,
        num_instances: float | Tensor,
        masks: MatchedMasks | None = None,
    ) -> dict[str, Tensor]:
        """Unweighted losses for given pairs by name, those that have a weight.

        A loss has an entry for each of the first outputs: of all O, of the L layers, or of those
        whose masks are supervised.

        Args:
            outputs: decoder layers and the encoder's selection.
            targets: the batch's people.
            match: which queries answer for whom.
            num_instances: divisor of every sum; the visibility loss is a mean.
            masks: the matched queries' masks, where they are supervised.
        """
        with without_autocast(outputs.logits.device):
            sums = _common_losses(outputs, targets, match) | _box_losses(outputs, targets, match)
            if masks is not None:
                sums |= _mask_losses(masks)
            losses = {name: value / num_instances for name, value in sums.items()}
            losses["visibility"] = visibility_loss(
                match.queries(outputs.visibility_logits),
                match.people(targets.visibility, len(outputs.visibility_logits)),
            )
        return {name: value for name, value in losses.items() if name in self.weights}

    def weighted_total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Sum over names and outputs of losses, each times the weight of its name."""
        weighted = [self.weights[name] * value for name, value in losses.items()]
        return torch.cat(weighted).sum()

    def _match_with_masks(
        self,
        predictions: Predictions,
        outputs: StackedPredictions,
        mask_head: MaskHead,
        targets: Sequence[Target],
        stacked: StackedTargets,
    ) -> tuple[Match, MatchedMasks]:
        """Match on coarse masks of all queries, then refine the matched ones only.

        The S layers whose masks are supervised stand side by side, as S * Q queries of an image.
        """
        features = predictions.mask_features
        *earlier, final = predictions.layers
        layers = [final, *earlier] if self.aux_masks else [final]
        made = [layer.coarse_masks for layer in layers if layer.coarse_masks is not None]
        coarse = (
            _side_by_side(made)
            if made
            else mask_head.coarse(
                features,
                _side_by_side([layer.embedding for layer in layers]),
                _side_by_side([layer.centre for layer in layers]),
            )
        )
        low_logits = mask_head.low_resolution(coarse)
        height, width = low_logits.shape[-2:]
        masks = stack_masks(targets, (2 * height, 2 * width))
        match = self.matcher(outputs, stacked, low_logits.detach(), half_resolution(masks))
        # One slot per image, layer and person; those without a pair hold a query that is not read.
        _, images, queries, people = match.shape
        layer = torch.arange(len(layers), device=coarse.device).unsqueeze(1)
        place = match.image * len(layers) + layer
        rows = place * queries + match.query[: len(layers)]
        slots = place * people + match.person[: len(layers)]
        chosen = rows.new_zeros(images * len(layers) * people)
        chosen = chosen.index_copy_(0, slots.flatten(), rows.flatten()).view(images, -1)
        refined = mask_head.refine(features, take(coarse.flatten(0, 1), chosen))
        return match, MatchedMasks(
            logits=take(refined.flatten(0, 1), slots),
            low_logits=take(low_logits.flatten(0, 1), rows),
            target=match.people(masks, len(layers)),
        )


def _side_by_side(values: list[Tensor]) -> Tensor:
    """Values (B, Q, ...) of S layers as (B, S * Q, ...)."""
    return values[0] if len(values) == 1 else torch.cat(values, dim=1)


def _common_losses(
    outputs: StackedPredictions, targets: StackedTargets, match: Match
) -> dict[str, Tensor]:
    count, logits = len(outputs.logits), outputs.logits
    labels = match.people(targets.labels, count)
    one_hot = torch.zeros_like(logits)
    one_hot.view(-1).index_fill_(0, (match.query_rows * logits.shape[-1] + labels).flatten(), 1)
    keypoints = match.queries(outputs.keypoints)
    true_keypoints = match.people(targets.keypoints, count)
    visibility = match.people(targets.visibility, count)
    variance = match.people(targets.variance, count)
    return {
        "class": class_loss(logits, one_hot),
        "keypoints": keypoint_l1_loss(keypoints, true_keypoints, visibility).sum(1),
        "oks": oks_loss(keypoints, true_keypoints, visibility, variance).sum(1),
    }


def _box_losses(
    outputs: StackedPredictions, targets: StackedTargets, match: Match
) -> dict[str, Tensor]:
    boxes = match.queries(outputs.boxes)
    true_boxes = match.people(targets.boxes, len(boxes))
    return {
        "box": box_l1_loss(boxes, true_boxes).sum(1),
        "giou": giou_loss(boxes, true_boxes).sum(1),
    }


def _mask_losses(masks: MatchedMasks) -> dict[str, Tensor]:
    low_target = half_resolution(masks.target)
    losses = {
        "mask": mask_focal_loss(masks.logits, masks.target),
        "dice": dice_loss(masks.logits, masks.target),
        "mask_low": mask_focal_loss(masks.low_logits, low_target),
        "dice_low": dice_loss(masks.low_logits, low_target),
    }
    return {name: loss.sum(1) for name, loss in losses.items()}
