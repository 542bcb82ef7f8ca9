"""Dense pose: every image token on the referred person answers for the pose.

The published losses hold one token per prompt to the pose, the one whose query is matched. From
scratch, features learn poses faster where all tokens on the person are (as in
one-stage detectors: FCOS, ICCV 2019). Nothing of this is in the official training.

Shapes: B images, S tokens over the L levels, C channels, N people at most in one image, M tokens on
people, K keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from uniphd.errors import ConfigError
from uniphd.keypoints import COCO17
from uniphd.losses.auxiliary.grounding import coverage
from uniphd.losses.keypoints import keypoint_l1_loss, oks_loss
from uniphd.losses.targets import stack_masks, stack_targets
from uniphd.models.outputs import TokenProposals
from uniphd.structures import Size, Target


@dataclass(frozen=True)
class DensePoseLoss:
    """Keypoint L1 and OKS losses of all tokens on a person, averaged per person.

    Attributes:
        weight: of this loss beside all others, in the grounding warm-up, too.
        keypoint_weight: of the keypoint L1 within this one.
        oks_weight: of 1 - OKS within this one.
        least_coverage: a token is on a person whose mask covers this share of its cell.

    Raises:
        ConfigError: a number is negative.
    """

    weight: float = 1.0
    keypoint_weight: float = 2.0
    oks_weight: float = 4.0
    least_coverage: float = 0.5

    def __post_init__(self) -> None:
        if min(astuple(self)) < 0:
            raise ConfigError(f"{self} has a negative number; use 0 to leave a part out.")

    def __call__(
        self,
        proposals: TokenProposals,
        poses: Callable[[Tensor, Tensor], Tensor],
        targets: Sequence[Target],
        canvas: Size,
        num_instances: float | Tensor,
    ) -> Tensor:
        """The loss of a batch, ().

        Args:
            proposals: the tokens.
            poses: features (M, C) and centres (M, 2) of tokens -> keypoints (M, K, 2).
            targets: one per image, on the proposals' device.
            canvas: (height, width) of the padded canvas in pixels.
            num_instances: divisor, see `losses.targets.count_instances`.
        """
        stacked = stack_targets(
            targets, torch.tensor(COCO17.sigmas, device=targets[0].boxes.device)
        )
        masks = stack_masks(targets, canvas)
        covered = torch.cat(
            [coverage(masks.flatten(0, 1), shape) for shape in proposals.shapes], dim=1
        ).unflatten(0, masks.shape[:2])
        on_person = (covered >= self.least_coverage) & ~proposals.invalid.unsqueeze(1)
        image, person, token = on_person.nonzero(as_tuple=True)
        keypoints = poses(proposals.features[image, token], proposals.centres[image, token])
        true_keypoints = stacked.keypoints[image, person]
        visibility = stacked.visibility[image, person]
        variance = stacked.variance[image, person]
        l1 = keypoint_l1_loss(keypoints, true_keypoints, visibility)
        oks = oks_loss(keypoints, true_keypoints, visibility, variance)
        share = on_person.sum(-1)[image, person]
        losses = (self.keypoint_weight * l1 + self.oks_weight * oks) / share
        mean: Tensor = losses.sum() / num_instances
        return mean
