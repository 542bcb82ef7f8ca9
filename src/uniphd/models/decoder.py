"""Pose-centric hierarchical decoder: query groups of an instance and its keypoints.

Shapes: B images, Q query groups, K keypoints, C channels, S memory tokens over the L levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from uniphd.errors import ConfigError
from uniphd.keypoints import COCO17
from uniphd.models.deformable_attention import AttentionStart, DeformableAttention
from uniphd.models.heads import PredictionHeads
from uniphd.models.layers import MLP, FeedForward, logit, require_positive
from uniphd.models.outputs import LayerPrediction
from uniphd.models.position import sine_position_of_points
from uniphd.structures import Size

_OWN_BIAS = 8.0  # of a keypoint's attention to itself, at a local start: 99 % of it

WithinAttention: TypeAlias = Literal["graph", "plain", "none"]
"""How the slots of a group see each other: the rows of the paper's table 7."""


class DecoderLayer(nn.Module):
    """Attention across groups, to the image, and within the group along a learned graph.

    The keypoints' position encoding is added to the keypoint slots themselves, twice, so that the
    residual connections carry it too (official release). Arguments and errors as for `PoseDecoder`.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        feedforward_dim: int,
        dropout: float,
        within_attention: WithinAttention = "graph",
        attention_start: AttentionStart = "ring",
        num_keypoints: int = len(COCO17),
    ) -> None:
        super().__init__()
        if within_attention not in get_args(WithinAttention):
            raise ConfigError(
                f"the decoder's within_attention is {within_attention!r}; choose from "
                f"{', '.join(get_args(WithinAttention))}."
            )
        self.across_attention = nn.MultiheadAttention(hidden_dim, num_heads, batch_first=True)
        self.across_norm = nn.LayerNorm(hidden_dim)
        self.cross_attention = DeformableAttention(
            hidden_dim, num_heads, num_levels, num_points, attention_start
        )
        self.cross_norm = nn.LayerNorm(hidden_dim)
        self.cross_feedforward = FeedForward(hidden_dim, feedforward_dim, dropout)
        graph, slots = within_attention == "graph", 1 + num_keypoints
        self.adjacency = nn.Parameter(torch.empty(num_heads, slots, slots)) if graph else None
        self.within_attention = (
            None
            if within_attention == "none"
            else nn.MultiheadAttention(hidden_dim, num_heads, batch_first=True)
        )
        self.within_norm = nn.LayerNorm(hidden_dim)
        self.within_feedforward = FeedForward(hidden_dim, feedforward_dim, dropout)
        self.dropout = nn.Dropout(dropout)
        if self.adjacency is not None:
            nn.init.xavier_uniform_(self.adjacency)
        if attention_start == "local":
            self._keep_keypoints_apart()

    def forward(
        self,
        groups: Tensor,
        positions: Tensor,
        reference: Tensor,
        memory: Tensor,
        shapes: Sequence[Size],
        padding: Tensor,
    ) -> Tensor:
        """Update the query groups.

        Args:
            groups: (B, Q, 1 + K, C).
            positions: (B, Q, K, C) position encoding of the keypoints.
            reference: (B, Q, 1 + K, L, 2) references per level.
            memory: (B, S, C).
            shapes: (h, w) of the levels.
            padding: (B, S) bool.
        """
        groups = self._across(groups)
        groups = self._look_up(groups, positions, reference, memory, shapes, padding)
        groups = self._within(groups, positions)
        out: Tensor = self.within_feedforward(groups)
        return out

    def _keep_keypoints_apart(self) -> None:
        """Let what slots tell each other begin at zero, and keypoints listen to themselves."""
        if self.within_attention is not None:
            nn.init.zeros_(self.within_attention.out_proj.weight)
        if self.adjacency is not None:
            with torch.no_grad():
                self.adjacency[:, 1:, 1:].diagonal(dim1=1, dim2=2).add_(_OWN_BIAS)

    def _across(self, groups: Tensor) -> Tensor:
        """Same slot, different groups."""
        slots = groups.transpose(1, 2).flatten(0, 1)
        update = self.across_attention(slots, slots, slots, need_weights=False)[0]
        update = update.unflatten(0, (-1, groups.shape[2])).transpose(1, 2)
        return self.across_norm(groups + self.dropout(update))  # type: ignore[no-any-return]

    def _look_up(
        self,
        groups: Tensor,
        positions: Tensor,
        reference: Tensor,
        memory: Tensor,
        shapes: Sequence[Size],
        padding: Tensor,
    ) -> Tensor:
        """Every slot looks at the image around its own reference."""
        groups = add_to_keypoints(groups, positions)
        update = self.cross_attention(
            groups.flatten(1, 2), reference.flatten(1, 2), memory, shapes, padding
        ).view_as(groups)
        out: Tensor = self.cross_feedforward(self.cross_norm(groups + self.dropout(update)))
        return out

    def _within(self, groups: Tensor, positions: Tensor) -> Tensor:
        """Same group, different slots; the adjacency matrices, where there are any, bias them."""
        groups = add_to_keypoints(groups, positions)
        if self.within_attention is not None:
            slots = groups.flatten(0, 1)
            bias = None
            if self.adjacency is not None:
                bias = self.adjacency.repeat(slots.shape[0], 1, 1)
            attend = self.within_attention
            update = attend(slots, slots, slots, attn_mask=bias, need_weights=False)[0]
            groups = groups + self.dropout(update.view_as(groups))
        return self.within_norm(groups)  # type: ignore[no-any-return]


class PoseDecoder(nn.Module):
    """A stack of decoder layers that refines the keypoint references from layer to layer.

    Args:
        hidden_dim: C.
        num_layers: layers; 6 in the paper.
        num_heads: attention heads.
        num_levels: L.
        num_points: sampled points per level and head.
        feedforward_dim: hidden width of the feed-forward blocks.
        dropout: inside the layers; 0 in the paper.
        within_attention: how the slots of a group see each other: "graph" is self-attention biased
            by a learned soft adjacency matrix per head, as in the paper, "plain" is self-attention
            alone, and with "none" they do not; the feed-forward block after it stays.
        attention_start: "ring" is the published initialisation. "local" lets slots look closely
            (see `DeformableAttention`) and not hear each other at first, the instance excepted:
            in a training of minutes, a keypoint otherwise learns late, or never, to correct its own
            reference.
        num_keypoints: K.

    Attributes:
        layer_type: what a layer is.

    Raises:
        ConfigError: `within_attention` or `attention_start` is none of these; a size is below 1;
            the heads do not divide C.
    """

    layer_type: ClassVar[type[DecoderLayer]] = DecoderLayer

    def __init__(
        self,
        hidden_dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        feedforward_dim: int = 2048,
        dropout: float = 0.0,
        within_attention: WithinAttention = "graph",
        attention_start: AttentionStart = "ring",
        num_keypoints: int = len(COCO17),
    ) -> None:
        super().__init__()
        require_positive(decoder_layers=num_layers)
        self.num_keypoints = num_keypoints
        self.hidden_dim = hidden_dim
        self.position_mlp = MLP(hidden_dim, hidden_dim, hidden_dim, num_layers=2)
        self.layers = nn.ModuleList(
            self.layer_type(
                hidden_dim,
                num_heads,
                num_levels,
                num_points,
                feedforward_dim,
                dropout,
                within_attention,
                attention_start,
                num_keypoints,
            )
            for _ in range(num_layers)
        )

    def forward(
        self,
        groups: Tensor,
        reference: Tensor,
        memory: Tensor,
        shapes: Sequence[Size],
        padding: Tensor,
        valid_ratios: Tensor,
        heads: PredictionHeads,
    ) -> list[LayerPrediction]:
        """Decode the query groups.

        Every layer starts from detached references, while its heads see the undetached ones
        ("look forward twice", DINO section 3.5), so that a head's loss also trains the refinement
        of the layer before.

        Args:
            groups: (B, Q, 1 + K, C) initial query groups.
            reference: (B, Q, 1 + K, 2) initial references, detached.
            memory: (B, S, C).
            shapes: (h, w) of the levels.
            padding: (B, S) bool.
            valid_ratios: (B, L, 2) as (width, height).
            heads: one prediction head per layer.

        Returns:
            One prediction per layer.
        """
        predictions = []
        for layer, head in zip(self.layers, heads, strict=True):
            detached = reference.detach()
            per_level = detached.unsqueeze(3) * valid_ratios[:, None, None]
            positions = self._keypoint_positions(per_level[:, :, 1:, 0])
            groups = layer(groups, positions, per_level, memory, shapes, padding)
            offsets = head.keypoint_offsets(groups)
            start = logit(reference)
            predictions.append(head(groups, reference, start, offsets))
            reference = refine(start.detach(), offsets)
        return predictions

    def _keypoint_positions(self, points: Tensor) -> Tensor:
        """Encode points (B, Q, K, 2) as (B, Q, K, C)."""
        encoded = sine_position_of_points(points, self.hidden_dim // 2)
        out: Tensor = self.position_mlp(encoded)
        return out


def refine(start: Tensor, offsets: Tensor) -> Tensor:
    """Move keypoints of logits (B, Q, 1 + K, 2) by offsets; the centre becomes their mean."""
    keypoints = (start[:, :, 1:] + offsets).sigmoid()
    return torch.cat([keypoints.mean(2, keepdim=True), keypoints], dim=2)


def add_to_keypoints(groups: Tensor, positions: Tensor) -> Tensor:
    """Add positions (B, Q, K, C) to the keypoint slots of groups (B, Q, 1 + K, C)."""
    return torch.cat([groups[:, :, :1], groups[:, :, 1:] + positions], dim=2)
