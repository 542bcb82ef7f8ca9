"""Assignment of queries to annotated people: bipartite matching as in DETR (arXiv 2005.12872).

The official release does not publish its matcher. The terms are those of its losses; their pairwise
forms are those of the projects it was built on, GroupPose (class, box, keypoints, OKS) and SgMg
(masks), up to constants that no assignment depends on.

Shapes: O outputs, B images, Q queries, N people at most in one image, M matched pairs of an output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from uniphd.errors import ConfigError
from uniphd.losses.boxes import box_l1_loss, giou_loss
from uniphd.losses.focal import pairwise_class_cost
from uniphd.losses.keypoints import keypoint_l1_loss, oks_loss
from uniphd.losses.masks import pairwise_dice_loss, pairwise_mask_focal_loss
from uniphd.losses.precision import without_autocast
from uniphd.losses.predictions import StackedPredictions
from uniphd.losses.targets import StackedTargets

_UNUSABLE = 1e6  # far above any real cost, small enough to add up exactly in float32


@dataclass(frozen=True)
class Match:
    """Matched pairs of every output, ordered by image; all outputs have as many.

    Attributes:
        image: (M,) int64 index of the image.
        query: (O, M) int64 index of the query in it.
        person: (O, M) int64 index of the target in it.
        shape: O, B, Q and N.
        non_finite: () int64, how many costs were NaN or infinite, those of padding included.
    """

    image: Tensor
    query: Tensor
    person: Tensor
    shape: tuple[int, int, int, int]
    non_finite: Tensor

    @cached_property
    def query_rows(self) -> Tensor:
        """(O, M) place of the queries among all O * B * Q."""
        outputs, images, queries, _ = self.shape
        output = torch.arange(outputs, device=self.image.device).unsqueeze(1)
        return (output * images + self.image) * queries + self.query

    @cached_property
    def person_rows(self) -> Tensor:
        """(O, M) place of the people among all B * N."""
        return self.image * self.shape[3] + self.person

    def queries(self, values: Tensor) -> Tensor:
        """The matched queries' values (O', M, ...) of the first O' outputs' (O', B, Q, ...)."""
        return take(values.flatten(0, 2), self.query_rows[: len(values)])

    def people(self, values: Tensor, outputs: int) -> Tensor:
        """The matched people's values (outputs, M, ...) for the first outputs, of (B, N, ...)."""
        return take(values.flatten(0, 1), self.person_rows[:outputs])


def take(values: Tensor, rows: Tensor) -> Tensor:
    """Rows of (R, ...) by indices of any shape; unlike values[rows], its gradient needs no sort."""
    rows_first: Tensor = values.index_select(0, rows.flatten()).unflatten(0, rows.shape)
    return rows_first


@dataclass(frozen=True)
class HungarianMatcher:
    """Assigns every person the query whose prediction costs least, no query twice.

    With one person per image, as in RefHuman, that is the minimum, which stays on the device; with
    more it is a linear assignment per image on the host. Of more people than queries, the ones that
    would cost most stay unmatched.

    Attributes:
        class_cost: weight of the focal classification cost.
        box_cost: weight of the box L1 distance.
        giou_cost: weight of 1 - GIoU.
        keypoint_cost: weight of the L1 distance of the labelled keypoints.
        oks_cost: weight of 1 - OKS.
        mask_cost: weight of the focal loss of the mask at half resolution.
        dice_cost: weight of the dice loss of the mask at half resolution.
        centre_cost: weight of the L1 distance of the keypoints' mean to the box's centre, for the
            encoder's selection, which has no boxes. Without keypoint costs nothing else says where
            a selected token is.

    Raises:
        ConfigError: a weight is negative or not finite.
    """

    class_cost: float = 2.0
    box_cost: float = 5.0
    giou_cost: float = 2.0
    keypoint_cost: float = 10.0
    oks_cost: float = 4.0
    mask_cost: float = 2.0
    dice_cost: float = 5.0
    centre_cost: float = 0.0

    def __post_init__(self) -> None:
        for name, cost in vars(self).items():
            if not 0 <= cost < math.inf:
                raise ConfigError(f"loss.matcher.{name} is {cost}; give a number of at least 0.")

    @torch.no_grad()
    def __call__(
        self,
        predictions: StackedPredictions,
        targets: StackedTargets,
        low_logits: Tensor | None = None,
        low_masks: Tensor | None = None,
    ) -> Match:
        """Match all outputs of the network, each by its own costs.

        Args:
            predictions: decoder layers and the encoder's selection.
            targets: the batch's people.
            low_logits: (B, S * Q, h, w) mask logits at half resolution of the first S outputs,
                where masks shall count.
            low_masks: (B, N, h, w) target masks at half resolution, with `low_logits`.
        """
        with without_autocast(predictions.logits.device):
            cost = self.cost(predictions, targets)
            if low_logits is not None and low_masks is not None:
                outputs = low_logits.shape[1] // cost.shape[2]
                masks = self._mask_cost(low_logits, low_masks).unflatten(1, (outputs, -1))
                cost[:outputs] += masks.transpose(0, 1)
        usable = cost.isfinite()
        cost = torch.where(usable, cost, _UNUSABLE)
        image, query, person = _assign(cost, targets.counts)
        shape = (cost.shape[0], cost.shape[1], cost.shape[2], cost.shape[3])
        return Match(image, query, person, shape, non_finite=(~usable).sum())

    @torch.no_grad()
    def cost(self, predictions: StackedPredictions, targets: StackedTargets) -> Tensor:
        """(O, B, Q, N) cost of every pair without masks; columns of padding mean nothing."""
        keypoints = predictions.keypoints.unsqueeze(-3)
        true_keypoints, true_boxes = targets.keypoints.unsqueeze(1), targets.boxes.unsqueeze(1)
        visibility, variance = targets.visibility.unsqueeze(1), targets.variance.unsqueeze(1)
        cost = (
            self.class_cost * pairwise_class_cost(predictions.logits, targets.labels)
            + self.keypoint_cost * keypoint_l1_loss(keypoints, true_keypoints, visibility)
            + self.oks_cost * oks_loss(keypoints, true_keypoints, visibility, variance)
        )
        boxes = predictions.boxes.unsqueeze(-2)
        cost[: len(boxes)] += self.box_cost * box_l1_loss(boxes, true_boxes)
        cost[: len(boxes)] += self.giou_cost * giou_loss(boxes, true_boxes)
        if self.centre_cost:
            centre = keypoints[len(boxes) :].mean(-2)
            cost[len(boxes) :] += self.centre_cost * box_l1_loss(centre, true_boxes[..., :2])
        return cost

    def _mask_cost(self, logits: Tensor, masks: Tensor) -> Tensor:
        focal = pairwise_mask_focal_loss(logits, masks)
        return self.mask_cost * focal + self.dice_cost * pairwise_dice_loss(logits, masks)


def _assign(cost: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Images (M,), queries and people (O, M) of every output's cheapest pairs by (O, B, Q, N)."""
    if max(counts) <= 1:
        image = _to_device([i for i, count in enumerate(counts) if count], cost.device)
        query = cost[..., 0].argmin(-1).index_select(1, image)
        return image, query, torch.zeros_like(query)
    # Imported here: scipy.optimize takes a while to load and one person per image does not need it.
    from scipy.optimize import linear_sum_assignment

    pairs = [
        [
            (image, int(query), int(person))
            for image, count in enumerate(counts)
            for query, person in zip(
                *linear_sum_assignment(matrices[image, :, :count]), strict=True
            )
        ]
        for matrices in cost.cpu().numpy()
    ]
    image, query, person = _to_device(pairs, cost.device).unbind(-1)
    return image[0], query, person


def _to_device(
    indices: list[int] | list[list[tuple[int, int, int]]], device: torch.device
) -> Tensor:
    return torch.tensor(indices, dtype=torch.int64).to(device, non_blocking=True)
