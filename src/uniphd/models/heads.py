"""Prediction heads of one decoder layer: class, box, keypoints and visibility.

Shapes: B images, Q queries, K keypoints, C channels; a query group is [instance, K keypoints].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from uniphd.models.layers import MLP
from uniphd.models.outputs import LayerPrediction
from uniphd.models.query_selection import init_classifier


class PredictionHead(nn.Module):
    """Heads of one layer; boxes and keypoints refine the references that entered the layer."""

    def __init__(self, hidden_dim: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(hidden_dim, num_classes)
        self.box_mlp = MLP(hidden_dim, hidden_dim, 4, num_layers=3)
        self.keypoint_mlp = MLP(hidden_dim, hidden_dim, 2, num_layers=3)
        self.visibility = nn.Linear(hidden_dim, 1)
        init_classifier(self.classifier)
        self.box_mlp.zero_last_layer()
        self.keypoint_mlp.zero_last_layer()

    def keypoint_offsets(self, groups: Tensor) -> Tensor:
        """Offsets (B, Q, K, 2) in logit space from the groups (B, Q, 1 + K, C)."""
        return self.keypoint_mlp(groups[:, :, 1:]).float()  # type: ignore[no-any-return]

    def forward(
        self, groups: Tensor, reference: Tensor, start: Tensor, offsets: Tensor
    ) -> LayerPrediction:
        """Predict from a layer's output.

        Args:
            groups: (B, Q, 1 + K, C) the layer's output.
            reference: (B, Q, 1 + K, 2) the references that entered the layer, with gradient.
            start: (B, Q, 1 + K, 2) the same in logit space.
            offsets: (B, Q, K, 2) from `keypoint_offsets`.
        """
        instance = groups[:, :, 0]
        raw_box = self.box_mlp(instance).float()
        centre_offset, extent = raw_box.split(2, dim=-1)
        return LayerPrediction(
            logits=self.classifier(instance),
            boxes=torch.cat([centre_offset + start[:, :, 0], extent], dim=-1).sigmoid(),
            keypoints=(start[:, :, 1:] + offsets).sigmoid(),
            visibility_logits=self.visibility(groups[:, :, 1:]).squeeze(-1),
            embedding=instance,
            centre=reference[:, :, 0],
        )


class PredictionHeads(nn.ModuleList):
    """One `PredictionHead` per decoder layer.

    Args:
        hidden_dim: C.
        num_layers: decoder layers.
        num_classes: class logits; index 0 is never a target, `PERSON` is that of people.
    """

    def __init__(
        self,
        hidden_dim: int = 256,
        num_layers: int = 6,
        num_classes: int = 2,
    ) -> None:
        super().__init__(PredictionHead(hidden_dim, num_classes) for _ in range(num_layers))

    def __iter__(self) -> Iterator[PredictionHead]:
        """The heads, first layer's first."""
        return cast(Iterator[PredictionHead], super().__iter__())
