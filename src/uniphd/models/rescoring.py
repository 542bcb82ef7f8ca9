"""Evidence: what the fusion's grounding says about an answer counts for its class.

Not in the paper. The grounding is asked about every part of the image, the class about a few
answers, so that whom a sentence means is known better by the grounding.

Shapes: B images, Q queries, S tokens over the levels, h8 x w8 cells of stride 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.errors import ConfigError
from uniphd.models.outputs import GroundingPrediction

_EPS = 1e-6  # keeps shares defined over a region without any cell
_LEAST_SHARE = 1e-9  # of a cell, so that its logarithm is finite


class GroundingEvidence(nn.Module):
    """A fixed weight times the grounding's score of an answer's own mask, less the best one's.

    That score, of annotated masks, is what the grounding's choice is trained on. The weight is not
    learned: what training is sure of it lets shrink, and new combinations of words lose most. Only
    differences between a prompt's answers count: with the score itself, which is as high for the
    second answer about a person as for the first, the class loss and the boxes stayed on a plateau.

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
                f"model.evidence.weight is {weight}; give a positive number, or "
                "model.evidence=null."
            )
        if not levels or min(levels) < 0:
            raise ConfigError(
                f"model.evidence.levels is {list(levels)}; name at least one level, such as [0, 1]."
            )
        self.weight = weight
        self.levels = tuple(levels)

    @torch.no_grad()
    def forward(self, grounding: GroundingPrediction, cover: Tensor) -> Tensor:
        """What to add to the person's class logits, (B, Q) float32, at most 0, without gradient.

        Args:
            grounding: of the prompts; rows of captions behind them are not read.
            cover: (B, Q, h8, w8) float32 share of every cell that the answer's mask covers.
        """
        lengths = [height * width for height, width in grounding.shapes]
        count = len(cover)
        logits = grounding.logits[:count].float().split(lengths, dim=1)
        padding = grounding.padding[:count].split(lengths, dim=1)
        scores = []
        for level in self.levels:
            covered = F.adaptive_avg_pool2d(cover, grounding.shapes[level]).flatten(2)
            covered = covered.masked_fill(padding[level].unsqueeze(1), 0)
            scores.append(region_score(logits[level], covered))
        score = torch.stack(scores).mean(0)
        return self.weight * (score - score.amax(1, keepdim=True))


def region_score(logits: Tensor, cover: Tensor) -> Tensor:
    """How much grounding logits speak for regions: the log of the mean of exp(logit) over each.

    A smooth maximum, to which a hat contributes as a shirt does that covers ten times as many
    cells. With the mean of the logits, synthetic people's hats and hair stayed at chance.

    Args:
        logits: (..., s) of the cells of a level.
        cover: (..., N, s) share of every cell that a region covers.

    Returns:
        (..., N).
    """
    share = cover / cover.sum(-1, keepdim=True).clamp(min=_EPS)
    return torch.logsumexp(logits.unsqueeze(-2) + share.clamp(min=_LEAST_SHARE).log(), dim=-1)
