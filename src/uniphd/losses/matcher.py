"""Which query answers for which annotated person: bipartite matching as in DETR (arXiv 2005.12872).

The official release does not publish its matcher. The terms are those of its losses; their pairwise
forms are those of the projects it was built on, GroupPose (class, box, keypoints, OKS) and SgMg
(masks), up to constants that no assignment depends on.

Shapes: B images, Q queries, N people at most in one image, M matched pairs, K = 17 keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uniphd.losses.boxes import box_l1_loss, giou_loss
from uniphd.losses.focal import pairwise_class_cost
from uniphd.losses.keypoints import keypoint_l1_loss, oks_loss
from uniphd.losses.masks import pairwise_dice_loss, pairwise_mask_focal_loss
from uniphd.losses.precision import without_autocast
from uniphd.losses.targets import StackedTargets
from uniphd.models.outputs import LayerPrediction, SelectionPrediction

_UNUSABLE = 1e6  # far above any real cost, small enough to add up exactly in float32


@dataclass(frozen=True)
class Match:
    """Matched pairs, ordered by image.

    Attributes:
        image: (M,) int64 index of the image.
        query: (M,) int64 index of the query in it.
        person: (M,) int64 index of the target in it.
        non_finite: () int64, how many costs were NaN or infinite, those of padding included.
    """

    image: Tensor
    query: Tensor
    person: Tensor
    non_finite: Tensor


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
    """

    class_cost: float = 2.0
    box_cost: float = 5.0
    giou_cost: float = 2.0
    keypoint_cost: float = 10.0
    oks_cost: float = 4.0
    mask_cost: float = 2.0
    dice_cost: float = 5.0
    centre_cost: float = 0.0

    @torch.no_grad()
    def __call__(
        self,
        prediction: LayerPrediction | SelectionPrediction,
        targets: StackedTargets,
        low_logits: Tensor | None = None,
        low_masks: Tensor | None = None,
    ) -> Match:
        """Match one output of the network.

        Args:
            prediction: a decoder layer's, or the encoder selection's: class and keypoints only.
            targets: the batch's people.
            low_logits: (B, Q, h, w) mask logits at half resolution, where masks shall count.
            low_masks: (B, N, h, w) target masks at half resolution, with `low_logits`.
        """
        with without_autocast(prediction.logits.device):
            cost = self.cost(prediction, targets)
            if low_logits is not None and low_masks is not None:
                cost = cost + self._mask_cost(low_logits, low_masks)
        usable = cost.isfinite()
        cost = torch.where(usable, cost, _UNUSABLE)
        image, query, person = _assign(cost, targets.counts)
        return Match(image, query, person, non_finite=(~usable).sum())

    def cost(
        self, prediction: LayerPrediction | SelectionPrediction, targets: StackedTargets
    ) -> Tensor:
        """(B, Q, N) cost of every pair without masks; columns of padding mean nothing."""
        keypoints = prediction.keypoints[:, :, None]
        true_keypoints = targets.keypoints[:, None]
        visibility = targets.visibility[:, None]
        cost = (
            self.class_cost * pairwise_class_cost(prediction.logits, targets.labels)
            + self.keypoint_cost * keypoint_l1_loss(keypoints, true_keypoints, visibility)
            + self.oks_cost * oks_loss(keypoints, true_keypoints, visibility, targets.area[:, None])
        )
        if isinstance(prediction, LayerPrediction):
            boxes, true_boxes = prediction.boxes[:, :, None], targets.boxes[:, None]
            cost = cost + self.box_cost * box_l1_loss(boxes, true_boxes)
            cost = cost + self.giou_cost * giou_loss(boxes, true_boxes)
        elif self.centre_cost:
            centre, true_centre = keypoints.mean(-2), targets.boxes[:, None, :, :2]
            cost = cost + self.centre_cost * box_l1_loss(centre, true_centre)
        return cost

    def _mask_cost(self, logits: Tensor, masks: Tensor) -> Tensor:
        focal = pairwise_mask_focal_loss(logits, masks)
        return self.mask_cost * focal + self.dice_cost * pairwise_dice_loss(logits, masks)


def _assign(cost: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Image, query and person indices of the cheapest assignment of a (B, Q, N) cost."""
    if max(counts) <= 1:
        image = _to_device([i for i, count in enumerate(counts) if count], cost.device)
        return image, cost[image, :, 0].argmin(1), torch.zeros_like(image)
    # Imported here: scipy.optimize takes a while to load and one person per image does not need it.
    from scipy.optimize import linear_sum_assignment

    pairs: list[tuple[int, int, int]] = []
    for image_index, (matrix, count) in enumerate(zip(cost.cpu().numpy(), counts, strict=True)):
        queries, people = linear_sum_assignment(matrix[:, :count])
        pairs += [(image_index, int(q), int(p)) for q, p in zip(queries, people, strict=True)]
    image, query, person = _to_device(pairs, cost.device).reshape(-1, 3).T
    return image, query, person


def _to_device(indices: list[int] | list[tuple[int, int, int]], device: torch.device) -> Tensor:
    return torch.tensor(indices, dtype=torch.int64).to(device, non_blocking=True)
