"""Prediction heads of one decoder layer: class, box, keypoints and visibility.

Shapes: B images, Q queries, K = 17 keypoints, C channels; a query group is [instance, K keypoints].
G levels of grounding logits are looked up at an answer's keypoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.keypoints import NUM_KEYPOINTS
from uniphd.models.layers import MLP, logit
from uniphd.models.outputs import LayerPrediction
from uniphd.models.query_selection import init_classifier


class PredictionHead(nn.Module):
    """Heads of one layer; boxes and keypoints refine the references that entered the layer."""

    def __init__(self, hidden_dim: int, num_classes: int, grounding_levels: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(hidden_dim, num_classes)
        self.box_mlp = MLP(hidden_dim, hidden_dim, 4, num_layers=3)
        self.keypoint_mlp = MLP(hidden_dim, hidden_dim, 2, num_layers=3)
        self.visibility = nn.Linear(hidden_dim, 1)
        self.evidence: nn.Linear | None = None
        if grounding_levels > 0:
            seen = grounding_levels * NUM_KEYPOINTS
            self.evidence = nn.Linear(seen, num_classes, bias=False)
            nn.init.zeros_(self.evidence.weight)
            nn.init.constant_(self.evidence.weight[1], 1 / seen)
        init_classifier(self.classifier)
        self.box_mlp.zero_last_layer()
        self.keypoint_mlp.zero_last_layer()

    def keypoint_offsets(self, groups: Tensor) -> Tensor:
        """Offsets (B, Q, K, 2) in logit space from the groups (B, Q, 1 + K, C)."""
        return self.keypoint_mlp(groups[:, :, 1:]).float()  # type: ignore[no-any-return]

    def forward(self, groups: Tensor, reference: Tensor, offsets: Tensor) -> LayerPrediction:
        """Predict from a layer's output.

        Args:
            groups: (B, Q, 1 + K, C) the layer's output.
            reference: (B, Q, 1 + K, 2) the references that entered the layer, with gradient.
            offsets: (B, Q, K, 2) from `keypoint_offsets`.
        """
        instance = groups[:, :, 0]
        centre = reference[:, :, 0]
        raw_box = self.box_mlp(instance).float()
        centre_offset, extent = raw_box.split(2, dim=-1)
        return LayerPrediction(
            logits=self.classifier(instance),
            boxes=torch.cat([centre_offset + logit(centre), extent], dim=-1).sigmoid(),
            keypoints=(logit(reference[:, :, 1:]) + offsets).sigmoid(),
            visibility_logits=self.visibility(groups[:, :, 1:]).squeeze(-1),
            embedding=instance,
            centre=centre,
        )


class PredictionHeads(nn.ModuleList):
    """One `PredictionHead` per decoder layer.

    Args:
        hidden_dim: C.
        num_layers: decoder layers.
        num_classes: class logits; index 1 is "person", index 0 is never a target.
        grounding_levels: G. What the fusion's grounding says at an answer's keypoints is added to
            its class logits with learned weights, which start as the mean over keypoints and
            levels, finest first; 0, as in the paper, for nothing.

    Attributes:
        grounding_levels: G.
    """

    def __init__(
        self,
        hidden_dim: int = 256,
        num_layers: int = 6,
        num_classes: int = 2,
        grounding_levels: int = 0,
    ) -> None:
        super().__init__(
            PredictionHead(hidden_dim, num_classes, grounding_levels) for _ in range(num_layers)
        )
        self.grounding_levels = grounding_levels

    def __iter__(self) -> Iterator[PredictionHead]:
        """The heads, first layer's first."""
        return cast(Iterator[PredictionHead], super().__iter__())

    def weigh_evidence(
        self, layers: Sequence[LayerPrediction], grounding: Sequence[Tensor], valid_ratios: Tensor
    ) -> list[LayerPrediction]:
        """Add what the grounding says at the keypoints to the class logits of every layer.

        No gradient reaches grounding or keypoints, which have losses of their own.

        Args:
            layers: one prediction per decoder layer.
            grounding: logits (B, h, w) of the levels, at least G of them.
            valid_ratios: (B, L, 2) share of every level's (width, height) that is picture.
        """
        weighed = []
        for layer, head in zip(layers, self, strict=True):
            if head.evidence is not None:
                seen = logits_at_keypoints(
                    grounding[: self.grounding_levels], layer.keypoints, valid_ratios
                )
                layer = replace(layer, logits=layer.logits + head.evidence(seen.detach()))
            weighed.append(layer)
        return weighed


def logits_at_keypoints(
    grounding: Sequence[Tensor], keypoints: Tensor, valid_ratios: Tensor
) -> Tensor:
    """Grounding logits at keypoints, bilinear, (B, Q, G K), level after level.

    Args:
        grounding: logits (B, h, w) of G levels.
        keypoints: (B, Q, K, 2) as fractions of the picture.
        valid_ratios: (B, L, 2) share of every level's (width, height) that is picture.
    """
    seen = []
    for level, logits in enumerate(grounding):
        places = 2 * keypoints * valid_ratios[:, None, None, level] - 1
        seen.append(
            F.grid_sample(
                logits.unsqueeze(1).float(), places, padding_mode="border", align_corners=False
            ).squeeze(1)
        )
    return torch.cat(seen, dim=2)
