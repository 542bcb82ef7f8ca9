"""Keypoint heatmaps: in which cell of the image every keypoint of the referred person lies.

Not in the paper. A token that regresses a pose has to know where the hands are, which may be far
from it. A heatmap asks every cell only about itself, and poses are learned sooner from scratch.

Shapes: B images, K keypoints, Q queries, N cells of stride 4, C channels.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.models.levels import cell_centres
from uniphd.models.outputs import HeatmapPrediction, TokenProposals
from uniphd.ops.sampling import is_exporting

_SUBCELLS = 2  # per side of a token of stride 8
_FAR = 0.2  # of the image: about how far a token's guess may be from the keypoint
_NEAR = 0.1  # about how far from each other the cells may be that a keypoint is the mean of


class KeypointHeatmaps(nn.Module):
    """A distribution over cells per keypoint, and its mean around a first guess.

    A cell's logits are read from the token of stride 8 that it belongs to and from the backbone's
    own map of stride 4. The heatmaps belong to the prompt; several queries of a prompt read them,
    each around its own guess. The mean over a distribution is differentiable, and finer than a cell
    ("integral regression", Sun et al., arXiv 1711.08229).

    Args:
        hidden_dim: C.
        stride4_dim: channels of the stride-4 backbone map.
        heatmap_dim: channels of a cell.
        num_keypoints: K.
    """

    def __init__(
        self, hidden_dim: int, stride4_dim: int, heatmap_dim: int, num_keypoints: int
    ) -> None:
        super().__init__()
        self.from_tokens = nn.Linear(hidden_dim, heatmap_dim * _SUBCELLS**2)
        self.from_stride4 = nn.Conv2d(stride4_dim, heatmap_dim, 1)
        self.logits = nn.Conv2d(heatmap_dim, num_keypoints, 1)
        self.log_window = nn.Parameter(torch.full((num_keypoints, 1), math.log(_NEAR)))

    def forward(
        self, proposals: TokenProposals, stride4: Tensor, valid_ratios: Tensor
    ) -> HeatmapPrediction:
        """Say where the keypoints are.

        Args:
            proposals: all tokens, the first level's stride being 8.
            stride4: (B, C4, h4, w4) backbone map.
            valid_ratios: (B, L, 2) share of every level's (width, height) that is image.
        """
        height, width = proposals.shapes[0]
        finest = self.from_tokens(proposals.features[:, : height * width])
        cells = F.pixel_shuffle(finest.transpose(1, 2).unflatten(2, (height, width)), _SUBCELLS)
        shape = (stride4.shape[-2], stride4.shape[-1])
        cells = cells[..., : shape[0], : shape[1]]
        maps = self.logits(F.relu(cells + self.from_stride4(stride4)))
        size = torch.tensor([shape[1], shape[0]], dtype=valid_ratios.dtype)
        extent = valid_ratios[:, 0] * size.to(valid_ratios.device, non_blocking=True)
        centres = cell_centres(shape, valid_ratios[:, 0])
        outside = (centres > 1).any(-1).unsqueeze(1)
        logits = maps.flatten(2).float().masked_fill(outside, -math.inf)
        return HeatmapPrediction(logits, centres, extent, shape)

    def locate(self, maps: HeatmapPrediction, guess: Tensor) -> Tensor:
        """Keypoints (B, Q, K, 2) around guesses (B, Q, K, 2), all as fractions of the image.

        First the mean around the guess, then the mean around that, so that of two likely places the
        likelier one is taken and not the middle between them.
        """
        # places need their digits; graphs for other runtimes have no autocast and cannot say so
        with nullcontext() if is_exporting() else torch.autocast(guess.device.type, enabled=False):
            with torch.no_grad():
                far = torch.full_like(self.log_window, math.log(_FAR))
                place = _mean_around(maps, guess, far)
            return _mean_around(maps, place, self.log_window)


def _mean_around(maps: HeatmapPrediction, guess: Tensor, log_window: Tensor) -> Tensor:
    """The maps' means (B, Q, K, 2) under Gaussian windows (K, 1) around guesses (B, Q, K, 2)."""
    sharpness = torch.exp(-2 * log_window)
    centres = maps.centres.unsqueeze(1)
    towards = (guess * sharpness) @ centres.transpose(-1, -2)
    away = 0.5 * sharpness * maps.centres.square().sum(-1).unsqueeze(1)
    scores = towards + (maps.logits - away).unsqueeze(1)
    mean: Tensor = scores.softmax(-1) @ centres
    return mean
