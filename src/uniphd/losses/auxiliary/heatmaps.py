"""Loss of heatmaps: which cells of the image hold the referred person's keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from uniphd.errors import ConfigError
from uniphd.losses.auxiliary.base import AuxiliaryInputs, AuxiliaryLoss

if TYPE_CHECKING:
    from uniphd.models.uniphd import UniPHD

_EPS = 1e-6  # nobody labelled: the mean is 0


@dataclass(frozen=True)
class HeatmapLoss(AuxiliaryLoss):
    """Cross-entropy with the four cells around a keypoint, weighted as in bilinear interpolation.

    The mean over such a distribution is the keypoint itself. In one dimension this is the
    distribution focal loss without its focusing (Li et al., arXiv 2006.04388, equation 6).
    """

    def check(self, model: UniPHD) -> None:
        """Raise ConfigError where the network has no heatmaps."""
        if model.query_selection.heatmaps is None:
            raise ConfigError(
                "The loss of heatmaps needs a network with heatmaps; give "
                "model.query_selection.heatmap_dim=64, or loss.auxiliary.heatmaps=null."
            )

    def __call__(self, inputs: AuxiliaryInputs) -> Tensor:
        """The unweighted loss of a batch, (): per person the mean over labelled keypoints."""
        prediction, stacked = inputs.tokens.heatmaps, inputs.stacked
        assert prediction is not None  # `check` refuses networks without
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
        out: Tensor = mean.sum() / inputs.num_instances
        return out
