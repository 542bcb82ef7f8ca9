"""Dense keypoint supervision: every image token on the referred person predicts the keypoints.

The published losses train the pose of one token per prompt, the one whose query is matched. A
network from scratch learns poses faster if all tokens on the person are trained (as in one-stage
detectors: FCOS, ICCV 2019). Nothing of this is in the official training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uniphd.losses.auxiliary.base import AuxiliaryInputs, AuxiliaryLoss
from uniphd.losses.auxiliary.grounding import occupancy
from uniphd.losses.keypoints import keypoint_l1_loss, oks_loss


@dataclass(frozen=True)
class DenseKeypointLoss(AuxiliaryLoss):
    """Keypoint L1 and OKS losses of all tokens on a person, averaged per person.

    Attributes:
        keypoint_weight: of the keypoint L1 within this one.
        oks_weight: of 1 - OKS within this one.
        min_occupancy: a token is on a person whose mask covers this share of its cell.
    """

    keypoint_weight: float = 2.0
    oks_weight: float = 4.0
    min_occupancy: float = 0.5

    def __call__(self, inputs: AuxiliaryInputs) -> Tensor:
        """The unweighted loss of a batch, ()."""
        proposals, stacked, masks = inputs.tokens.proposals, inputs.stacked, inputs.masks
        occupied = torch.cat(
            [occupancy(masks.flatten(0, 1), shape) for shape in proposals.shapes], dim=1
        ).unflatten(0, masks.shape[:2])
        on_person = (occupied >= self.min_occupancy) & ~proposals.invalid.unsqueeze(1)
        image, person, token = on_person.nonzero(as_tuple=True)
        keypoints = inputs.model.query_selection.poses(
            proposals.features[image, token], proposals.centres[image, token]
        )
        true_keypoints = stacked.keypoints[image, person]
        visibility = stacked.visibility[image, person]
        l1 = keypoint_l1_loss(keypoints, true_keypoints, visibility)
        oks = oks_loss(keypoints, true_keypoints, visibility, stacked.variance[image, person])
        share = on_person.sum(-1)[image, person]
        losses = (self.keypoint_weight * l1 + self.oks_weight * oks) / share
        mean: Tensor = losses.sum() / inputs.num_instances
        return mean
