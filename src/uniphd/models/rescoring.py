"""Rescoring: what the fusion's grounding says about a query's mask counts for its class.

Not in the paper. The grounding is trained on every part of the image, the class on a few queries,
so that the grounding tells people apart better.

Shapes: B images, Q queries, S tokens over the levels, h8 x w8 cells of stride 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.errors import ConfigError
from uniphd.models.channel_mapper import ChannelMapper
from uniphd.models.fusion import NoFusion, PromptFusion
from uniphd.models.mask_head import MaskHead
from uniphd.models.outputs import GroundingPrediction, LayerPrediction, MaskFeatures
from uniphd.structures import PERSON

_EPS = 1e-6  # keeps shares defined for a mask without any cell
_LEAST_SHARE = 1e-9  # of a cell, so that its logarithm is finite


class GroundingRescoring(nn.Module):
    """A fixed weight times the grounding's score of a query's own mask, less the best query's.

    That score, of annotated masks, is what the contrastive loss over people is trained on. The
    weight is not learned: a learned one shrinks once the training's texts are told apart without
    it, and new combinations of words lose most. Only differences between a prompt's queries count:
    with the score itself, which is as high for the second query on a person as for the first, the
    class loss and the boxes stayed on a plateau.

    Args:
        weight: of the score; positive.
        levels: feature levels to average: 0 is stride 8, 1 is stride 16, and so on.

    Raises:
        ConfigError: the weight is not positive, or there is no level or a negative one.
    """

    def __init__(self, weight: float, levels: Sequence[int]) -> None:
        super().__init__()
        if not weight > 0:
            raise ConfigError(
                f"model.rescoring.weight is {weight}; give a positive number, or "
                "model.rescoring=null."
            )
        if not levels or min(levels) < 0:
            raise ConfigError(
                f"model.rescoring.levels is {list(levels)}; name at least one level, for example "
                "[0, 1]."
            )
        self.weight = weight
        self.levels = tuple(levels)

    def check(self, fusion: PromptFusion | NoFusion, neck: ChannelMapper) -> None:
        """Raise ConfigError where a network has nothing to rescore by."""
        require_grounding("model.rescoring", self.levels, fusion, neck)

    def rescore(
        self,
        layer: LayerPrediction,
        grounding: GroundingPrediction,
        mask_head: MaskHead,
        features: MaskFeatures,
    ) -> LayerPrediction:
        """A layer's prediction with the rescoring in its class logits, and with coarse masks."""
        coarse = mask_head.coarse(features, layer.embedding, layer.centre)
        occupancy = mask_head.occupancy(coarse.detach())  # masks have a loss of their own
        logits = layer.logits.clone()
        logits[..., PERSON] += self(grounding, occupancy).to(logits.dtype)
        return replace(layer, logits=logits, coarse_masks=coarse)

    @torch.no_grad()
    def forward(self, grounding: GroundingPrediction, occupancy: Tensor) -> Tensor:
        """What to add to the person's class logits, (B, Q) float32, at most 0, without gradient.

        Args:
            grounding: of the prompts; rows of captions behind them are not read.
            occupancy: (B, Q, h8, w8) float32 share of every cell that the query's mask covers.
        """
        lengths = [height * width for height, width in grounding.shapes]
        count = occupancy.shape[0]
        logits = grounding.logits[:count].float().split(lengths, dim=1)
        padding = grounding.padding[:count].split(lengths, dim=1)
        scores = []
        for level in self.levels:
            share = F.adaptive_avg_pool2d(occupancy, grounding.shapes[level]).flatten(2)
            share = share.masked_fill(padding[level].unsqueeze(1), 0)
            scores.append(log_sum_exp_pooling(logits[level], share))
        score = torch.stack(scores).mean(0)
        return self.weight * (score - score.amax(1, keepdim=True))


def require_grounding(
    key: str, levels: Sequence[int], fusion: PromptFusion | NoFusion, neck: ChannelMapper
) -> None:
    """Raise ConfigError where a network lacks the grounding logits that `key` reads at `levels`."""
    if not fusion.gives_grounding:
        raise ConfigError(
            f"{key} needs grounding logits, which {type(fusion).__name__} does not make; use "
            f"model=uniphd_plus or {key}=null."
        )
    if max(levels) >= len(neck.levels):
        raise ConfigError(
            f"{key}.levels is {list(levels)}, but the network has the levels 0 to "
            f"{len(neck.levels) - 1} (sizes.num_levels)."
        )


def log_sum_exp_pooling(logits: Tensor, occupancy: Tensor) -> Tensor:
    """Pool grounding logits over masks: the log of the mean of exp(logit) over each.

    A smooth maximum, to which a hat contributes as a shirt does that covers ten times as many
    cells. With the mean of the logits, synthetic people's hats and hair stayed at chance.

    Args:
        logits: (..., s) of the cells of a level.
        occupancy: (..., N, s) share of every cell that a mask covers.

    Returns:
        (..., N).
    """
    share = occupancy / occupancy.sum(-1, keepdim=True).clamp(min=_EPS)
    return torch.logsumexp(logits.unsqueeze(-2) + share.clamp(min=_LEAST_SHARE).log(), dim=-1)
