"""The training loss: every output of the network against the people annotated in the batch.

Shapes: O supervised outputs, the first L of them decoder layers, B images, Q queries, N people at
most in one image, M matched pairs of an output, K keypoints, H x W padded canvas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from uniphd.errors import ConfigError
from uniphd.keypoints import COCO17, keypoint_schema
from uniphd.losses.auxiliary.base import AuxiliaryInputs, AuxiliaryLoss, WarmUp
from uniphd.losses.boxes import box_l1_loss, giou_loss
from uniphd.losses.focal import class_loss
from uniphd.losses.keypoints import keypoint_l1_loss, oks_loss, visibility_loss
from uniphd.losses.matched_masks import MatchedMasks, mask_losses, match_with_masks
from uniphd.losses.matcher import HungarianMatcher, Match
from uniphd.losses.precision import without_autocast
from uniphd.losses.predictions import StackedPredictions, stack_predictions
from uniphd.losses.targets import StackedTargets, stack_targets
from uniphd.models.outputs import Predictions, TokenPredictions
from uniphd.structures import Target

if TYPE_CHECKING:
    from uniphd.models.uniphd import UniPHD

MASK_LOSSES = ("mask", "dice", "mask_low", "dice_low")
LOSS_NAMES = ("class", "box", "giou", "keypoints", "oks", "visibility", *MASK_LOSSES)


@dataclass(frozen=True)
class CriterionResult:
    """What one step's loss consists of.

    Attributes:
        total: () the weighted sum, to call `backward` on.
        losses: unweighted values by "output/loss", such as "final/class", and by the names of
            auxiliary losses, detached.
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
        auxiliary: losses beside the published ones by name; None for one that is left out.
        warmup: the first steps, in which auxiliary losses alone are trained; None for none.

    Raises:
        ConfigError: a weight is negative, not finite or of no loss, or all are 0; or a warm-up
            trains nothing.
    """

    def __init__(
        self,
        matcher: HungarianMatcher,
        weights: Mapping[str, float],
        aux_masks: bool = False,
        keypoints: str = COCO17.name,
        auxiliary: Mapping[str, AuxiliaryLoss | None] | None = None,
        warmup: WarmUp | None = None,
    ) -> None:
        super().__init__()
        if unknown := sorted(set(weights) - set(LOSS_NAMES)):
            raise ConfigError(f"loss weights {unknown} are unknown; known are {list(LOSS_NAMES)}.")
        if wrong := sorted(name for name, weight in weights.items() if not 0 <= weight < math.inf):
            raise ConfigError(
                f"loss weights {wrong} are negative or not finite; use 0 to drop a loss."
            )
        self.matcher = matcher
        if not any(weights.values()):
            raise ConfigError("every loss weight is 0; give at least one loss a weight.")
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}
        self.aux_masks = aux_masks
        self.uses_masks = any(name in self.weights for name in MASK_LOSSES)
        self.schema = keypoint_schema(keypoints)
        self.sigmas: Tensor
        self.register_buffer("sigmas", torch.tensor(self.schema.sigmas), persistent=False)
        self.auxiliary = {name: loss for name, loss in (auxiliary or {}).items() if loss}
        self.warmup = warmup
        self.warmup_weights = {
            name: self.auxiliary[name].weight if weight is None else weight
            for name, weight in (warmup.weights if warmup else {}).items()
            if name in self.auxiliary
        }
        if warmup is not None and not any(self.warmup_weights.values()):
            raise ConfigError(
                f"loss.warmup.weights is {dict(warmup.weights)}, which gives no weight to any of "
                f"the auxiliary losses {sorted(self.auxiliary)}; give one, or loss.warmup=null."
            )

    def check(self, model: UniPHD) -> None:
        """Raise ConfigError where the network does not give what an auxiliary loss reads."""
        for loss in self.auxiliary.values():
            loss.check(model)

    def warms_up(self, step: int) -> bool:
        """Whether the optimizer step with this number, counted from 0, belongs to the warm-up."""
        return self.warmup is not None and step < self.warmup.steps

    def forward(
        self,
        predictions: Predictions,
        targets: Sequence[Target],
        model: UniPHD,
        num_instances: float | Tensor,
        image_index: Sequence[int] | None = None,
        person_ids: Sequence[int] | None = None,
    ) -> CriterionResult:
        """Loss of a batch.

        Args:
            predictions: the network's output.
            targets: one per prompt, on the predictions' device.
            model: the network; masks are made for chosen queries, poses for chosen tokens.
            num_instances: what sums are divided by, see `losses.targets.count_instances`.
            image_index: B times the index of the prompt's image; None for one prompt per image.
            person_ids: B times the person that the prompt is about; None for a person per prompt.
        """
        stacked = stack_targets(targets, self.sigmas)
        outputs = stack_predictions(predictions)
        inputs = AuxiliaryInputs(
            predictions.tokens, targets, stacked, image_index, person_ids, model, num_instances
        )
        masks: MatchedMasks | None = None
        if self.uses_masks:
            *earlier, final = predictions.layers
            match, masks = match_with_masks(
                self.matcher,
                outputs,
                [final, *earlier] if self.aux_masks else [final],
                predictions.mask_features,
                model.mask_head,
                inputs.masks,
                stacked,
            )
        else:
            match = self.matcher(outputs, stacked)
        losses = self.matched_losses(outputs, stacked, match, num_instances, masks)
        named = {
            f"{output}/{name}": value
            for name, values in losses.items()
            for output, value in zip(outputs.names, values.detach().unbind(), strict=False)
        }
        weights = {name: loss.weight for name, loss in self.auxiliary.items() if loss.weight}
        beside = {name: self.auxiliary[name](inputs) for name in weights}
        return CriterionResult(
            total=weighted_total(losses | beside, self.weights | weights),
            losses=named | {name: value.detach() for name, value in beside.items()},
            non_finite_costs=match.non_finite,
        )

    def warm_up(
        self,
        tokens: TokenPredictions,
        targets: Sequence[Target],
        model: UniPHD,
        num_instances: float | Tensor,
        image_index: Sequence[int] | None = None,
        person_ids: Sequence[int] | None = None,
    ) -> CriterionResult:
        """Loss of a batch in the warm-up, of `UniPHD.read_tokens`; other arguments as `forward`."""
        stacked = stack_targets(targets, self.sigmas)
        inputs = AuxiliaryInputs(
            tokens, targets, stacked, image_index, person_ids, model, num_instances
        )
        weights = {name: weight for name, weight in self.warmup_weights.items() if weight}
        losses = {name: self.auxiliary[name](inputs) for name in weights}
        return CriterionResult(
            total=weighted_total(losses, weights),
            losses={name: value.detach() for name, value in losses.items()},
            non_finite_costs=stacked.labels.new_zeros(()),
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
            match: the pairs of queries and people.
            num_instances: divisor of every sum; the visibility loss is a mean.
            masks: the matched queries' masks, where they are supervised.
        """
        with without_autocast(outputs.logits.device):
            sums = _common_losses(outputs, targets, match) | _box_losses(outputs, targets, match)
            if masks is not None:
                sums |= mask_losses(masks)
            losses = {name: value / num_instances for name, value in sums.items()}
            losses["visibility"] = visibility_loss(
                match.queries(outputs.visibility_logits),
                match.people(targets.visibility, len(outputs.visibility_logits)),
            )
        return {name: value for name, value in losses.items() if name in self.weights}


def weighted_total(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum over names, and over the outputs of a name, of losses times the weight of their name."""
    return torch.cat([weights[name] * value.reshape(-1) for name, value in losses.items()]).sum()


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
