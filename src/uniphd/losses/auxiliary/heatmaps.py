"""Loss of keypoint maps: which cells of the image hold the referred person's keypoints.

Shapes: B images, M people at most in one image, K keypoints, N cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from uniphd.errors import ConfigError
from uniphd.keypoints import COCO17
from uniphd.losses.targets import stack_targets
from uniphd.models.outputs import HeatmapPrediction
from uniphd.structures import Target

_EPS = 1e-6  # nobody labelled: the mean is 0


@dataclass(frozen=True)
class KeypointMapLoss:
    """Cross-entropy with the four cells around a keypoint, weighted as in bilinear interpolation.

    The mean over such a distribution is the keypoint itself. In one dimension this is the
    distribution focal loss without its focusing (Li et al., arXiv 2006.04388, equation 6).

    Attributes:
        weight: of this loss beside all others, in a grounding warm-up, too.

    Raises:
        ConfigError: the weight is negative.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ConfigError(f"{self} has a negative number; use keypoint_maps=none for none.")

    def __call__(
        self,
        prediction: HeatmapPrediction,
        targets: Sequence[Target],
        num_instances: float | Tensor,
    ) -> Tensor:
        """The loss of a batch, (): per person the mean over labelled keypoints.

        Args:
            prediction: the maps.
            targets: one per image, on the prediction's device.
            num_instances: divisor, see `losses.targets.count_instances`.
        """
        stacked = stack_targets(
            targets, torch.tensor(COCO17.sigmas, device=targets[0].boxes.device)
        )
        extent = prediction.extent[:, None, None]
        place = torch.minimum((stacked.keypoints * extent - 0.5).clamp(min=0), extent - 1)
        low = place.floor()
        sides = ((low, 1 - (place - low)), (torch.minimum(low + 1, extent - 1), place - low))
        likelihood = prediction.logits.log_softmax(-1).unsqueeze(1)
        likelihood = likelihood.expand(-1, place.shape[1], -1, -1)
        entropy = torch.zeros_like(place[..., 0])
        for (x, x_share), (y, y_share) in product(sides, sides):
            cell = (y[..., 1] * prediction.shape[1] + x[..., 0]).long()
            share = x_share[..., 0] * y_share[..., 1]
            entropy = entropy - share * likelihood.gather(3, cell.unsqueeze(-1)).squeeze(-1)
        visibility = stacked.visibility
        mean = (entropy * visibility).sum(-1) / (visibility.sum(-1) + _EPS)
        out: Tensor = mean.sum() / num_instances
        return out
