"""Query selection: the encoder's most person-like tokens start the decoder's query groups.

Shapes: B images, S tokens over the L levels, C channels, Q queries, K keypoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uniphd.keypoints import COCO17
from uniphd.models.heatmaps import KeypointHeatmaps
from uniphd.models.layers import MLP, MlpInit, require_positive
from uniphd.models.levels import cell_centres
from uniphd.models.outputs import HeatmapPrediction, SelectionPrediction, TokenProposals
from uniphd.ops.sampling import is_exporting
from uniphd.structures import Size

_MARGIN = 0.01  # proposals closer to the border than this are not valid (Deformable DETR)
_BASE_SIZE = 0.05  # proposal width and height on the finest level (Deformable DETR)


@dataclass(frozen=True)
class Selection:
    """The chosen tokens.

    Attributes:
        groups: (B, Q, 1 + K, C) initial query groups: the instance slot, then the keypoints.
        reference: (B, Q, 1 + K, 2) initial references, detached: the centre, then the keypoints.
        prediction: the encoder's own, for the intermediate losses.
        tokens: (B, Q) int64 indices into the S tokens.
        proposals: all tokens that were to choose from.
        heatmaps: None where there are none.
    """

    groups: Tensor
    reference: Tensor
    prediction: SelectionPrediction
    tokens: Tensor
    proposals: TokenProposals
    heatmaps: HeatmapPrediction | None


class QuerySelection(nn.Module):
    """Two-stage start: score every token, keep the best Q, guess their keypoints.

    Args:
        hidden_dim: C.
        num_queries: Q.
        num_classes: class logits; index 1 is "person".
        prompt_as_query: start every group's instance slot with the prompt's vector, as in the
            paper; otherwise with a learned one, which is the same for all prompts.
        tokens_as_queries: add the chosen token's vector to the learned keypoint queries of its
            group, as in the paper; otherwise all groups start with the same keypoint queries, and
            only their references differ.
        stride4_dim: channels of the stride-4 backbone map.
        heatmap_dim: channels of the keypoint heatmaps, to which the guessed keypoints move; 0, as
            in the paper, for none.
        mlp_init: of the four layers that guess poses, see `MLP`. With "default", the dense
            poses of a training from scratch may stay on a plateau for a thousand steps.
        num_keypoints: K.

    Raises:
        ConfigError: `mlp_init` is unknown, or Q below 1.
    """

    def __init__(
        self,
        hidden_dim: int = 256,
        num_queries: int = 20,
        num_classes: int = 2,
        prompt_as_query: bool = True,
        tokens_as_queries: bool = True,
        mlp_init: MlpInit = "default",
        stride4_dim: int = 96,
        heatmap_dim: int = 0,
        num_keypoints: int = len(COCO17),
    ) -> None:
        super().__init__()
        require_positive(num_queries=num_queries)
        self.num_queries = num_queries
        self.num_keypoints = num_keypoints
        self.tokens_as_queries = tokens_as_queries
        self.projection = nn.Linear(hidden_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.classifier = nn.Linear(hidden_dim, num_classes)
        self.keypoint_mlp = MLP(
            hidden_dim, 2 * hidden_dim, 2 * num_keypoints, num_layers=4, init=mlp_init
        )
        self.keypoint_embedding = nn.Embedding(num_keypoints, hidden_dim)
        self.heatmaps = (
            KeypointHeatmaps(hidden_dim, stride4_dim, heatmap_dim, num_keypoints)
            if heatmap_dim
            else None
        )
        self.instance_query = None if prompt_as_query else nn.Parameter(torch.randn(hidden_dim))
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        init_classifier(self.classifier)
        self.keypoint_mlp.zero_last_layer()

    def forward(
        self,
        memory: Tensor,
        padding: Tensor,
        shapes: Sequence[Size],
        valid_ratios: Tensor,
        global_embedding: Tensor,
        stride4: Tensor,
    ) -> Selection:
        """Choose the queries.

        Args:
            memory: (B, S, C) from the encoder.
            padding: (B, S) bool, True on padding.
            shapes: (h, w) of the levels.
            valid_ratios: (B, L, 2) as (width, height).
            global_embedding: (B, C) of the prompt, for the instance slot of every group.
            stride4: (B, C4, h4, w4) backbone map, for the heatmaps.
        """
        proposals = self.propose(memory, padding, shapes, valid_ratios)
        logits = self.classifier(proposals.features)
        tokens = logits.amax(-1).topk(self.num_queries, dim=1).indices
        chosen = _gather(proposals.features, tokens)
        keypoints = self.poses(chosen, _gather(proposals.centres, tokens))
        maps = self.maps(proposals, stride4, valid_ratios)
        if self.heatmaps is not None and maps is not None:
            keypoints = self.heatmaps.locate(maps, keypoints.detach())
        reference = torch.cat([keypoints.mean(2, keepdim=True), keypoints], dim=2).detach()
        content = chosen.detach() if self.tokens_as_queries else torch.zeros_like(chosen)
        keypoint_slots = content.unsqueeze(2) + self.keypoint_embedding.weight
        instance = global_embedding
        if self.instance_query is not None:
            instance = self.instance_query.expand_as(global_embedding)
        instance_slot = instance[:, None, None].expand(-1, self.num_queries, -1, -1)
        return Selection(
            groups=torch.cat([instance_slot, keypoint_slots], dim=2),
            reference=reference,
            prediction=SelectionPrediction(_gather(logits, tokens), keypoints),
            tokens=tokens,
            proposals=proposals,
            heatmaps=maps,
        )

    def maps(
        self, proposals: TokenProposals, stride4: Tensor, valid_ratios: Tensor
    ) -> HeatmapPrediction | None:
        """The heatmaps, if the network has any; arguments as in `KeypointHeatmaps.forward`."""
        if self.heatmaps is None:
            return None
        out: HeatmapPrediction = self.heatmaps(proposals, stride4, valid_ratios)
        return out

    def propose(
        self, memory: Tensor, padding: Tensor, shapes: Sequence[Size], valid_ratios: Tensor
    ) -> TokenProposals:
        """Make every token ready to be chosen; the arguments are those of `forward`."""
        proposals, invalid = token_proposals(shapes, padding, valid_ratios)
        features = self.norm(self.projection(memory.masked_fill(invalid.unsqueeze(-1), 0.0)))
        return TokenProposals(features, proposals[..., :2], invalid, tuple(shapes))

    def poses(self, features: Tensor, centres: Tensor) -> Tensor:
        """Guess the poses of tokens.

        Args:
            features: (..., C) of `TokenProposals`.
            centres: (..., 2) likewise.

        Returns:
            (..., K, 2) keypoints as fractions of the image.
        """
        offsets = self.keypoint_mlp(features).unflatten(-1, (self.num_keypoints, 2)).float()
        keypoints: Tensor = (centres.unsqueeze(-2) + offsets).sigmoid()
        return keypoints


def token_proposals(
    shapes: Sequence[Size], padding: Tensor, valid_ratios: Tensor
) -> tuple[Tensor, Tensor]:
    """A proposal (cx, cy, w, h) per token in logit space, +inf where it is not valid.

    Args:
        shapes: (h, w) of the levels.
        padding: (B, S) bool.
        valid_ratios: (B, L, 2) as (width, height).

    Returns:
        Proposals (B, S, 4) and which tokens are padding or too close to the border (B, S).
    """
    per_level = []
    for index, shape in enumerate(shapes):
        centres = cell_centres(shape, valid_ratios[:, index])
        size = torch.full_like(centres, _BASE_SIZE * 2**index)
        per_level.append(torch.cat([centres, size], dim=-1))
    proposals = torch.cat(per_level, dim=1)
    inside = ((proposals > _MARGIN) & (proposals < 1 - _MARGIN)).all(-1)
    invalid = padding | ~inside
    proposals = torch.log(proposals / (1 - proposals))
    return proposals.masked_fill(invalid.unsqueeze(-1), math.inf), invalid


def init_classifier(classifier: nn.Linear, prior: float = 0.01) -> None:
    """Start with a probability of `prior` for every class (RetinaNet, section 4.1)."""
    nn.init.constant_(classifier.bias, -math.log((1 - prior) / prior))


def _gather(source: Tensor, tokens: Tensor) -> Tensor:
    """Pick tokens (B, Q) out of source (B, S, D)."""
    if is_exporting():  # OpenVINO 2026.4 makes an invalid graph of GatherElements after a slice
        rows = torch.arange(tokens.shape[0], device=tokens.device).unsqueeze(1)
        return source[rows, tokens]
    return source.gather(1, tokens.unsqueeze(-1).expand(-1, -1, source.shape[-1]))
