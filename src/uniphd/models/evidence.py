"""Evidence: what the fusion's grounding says about an answer counts for its class.

Not in the paper. The grounding is asked about every part of the picture, the class about a few
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

_EPS = 1e-6  # keeps the mean defined over a mask that covers no cell


class GroundingEvidence(nn.Module):
    """A fixed weight times the mean grounding logit over an answer's own mask, less the best one's.

    That mean, over annotated masks, is what the grounding's choice is trained on. The weight is not
    learned: what training is sure of it lets shrink, and new combinations of words lose most. Only
    differences between a prompt's answers count: with the mean itself, which is as high for the
    second answer about a person as for the first, the class loss and the boxes stayed on a plateau.

    Args:
        weight: of the mean; positive.
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
        means = []
        for level in self.levels:
            covered = F.adaptive_avg_pool2d(cover, grounding.shapes[level]).flatten(2)
            covered = covered.masked_fill(padding[level].unsqueeze(1), 0)
            total = covered.sum(2).clamp(min=_EPS)
            means.append((covered @ logits[level].unsqueeze(2)).squeeze(2) / total)
        mean = torch.stack(means).mean(0)
        return self.weight * (mean - mean.amax(1, keepdim=True))
