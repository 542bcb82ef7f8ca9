"""Typed values inside the network, and its predictions.

Shapes: P images, B prompts, each with its image, S tokens over the L levels, Q queries, C channels,
K keypoints. Coordinates are fractions of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from uniphd.structures import Size


@dataclass(frozen=True)
class LayerPrediction:
    """What the heads predict after one decoder layer.

    Attributes:
        logits: (B, Q, 2) class logits; index 1 is "person", index 0 is never a target.
        boxes: (B, Q, 4) centre x, centre y, width, height.
        keypoints: (B, Q, K, 2) (x, y).
        visibility_logits: (B, Q, K).
        embedding: (B, Q, C) the instance slot, from which masks are generated.
        centre: (B, Q, 2) the reference centre that entered the layer, for the masks' coordinates.
        coarse_masks: (B, Q, 16, h8, w8) of `MaskHead.coarse`, where the network needed them itself.
    """

    logits: Tensor
    boxes: Tensor
    keypoints: Tensor
    visibility_logits: Tensor
    embedding: Tensor
    centre: Tensor
    coarse_masks: Tensor | None = None


@dataclass(frozen=True)
class SelectionPrediction:
    """The encoder's own prediction for the tokens chosen as queries.

    Attributes:
        logits: (B, Q, 2) class logits.
        keypoints: (B, Q, K, 2) (x, y).
    """

    logits: Tensor
    keypoints: Tensor


@dataclass(frozen=True)
class TokenProposals:
    """What query selection makes of every image token, before it chooses any.

    Attributes:
        features: (B, S, C) normalised, what classes and poses are read from.
        centres: (B, S, 2) the tokens' (x, y) in logit space; +inf where `invalid`.
        invalid: (B, S) bool, True on padding and too close to the border.
        shapes: (h, w) of the levels.
    """

    features: Tensor
    centres: Tensor
    invalid: Tensor
    shapes: tuple[Size, ...]


@dataclass(frozen=True)
class HeatmapPrediction:
    """Where the keypoints of a prompt's person are, cell by cell.

    Attributes:
        logits: (B, K, N) float32, row by row; -inf on padding.
        centres: (B, N, 2) the cells' (x, y).
        extent: (B, 2) columns and rows of the cells inside the image.
        shape: (rows, columns) of the cells.
    """

    logits: Tensor
    centres: Tensor
    extent: Tensor
    shape: Size


@dataclass(frozen=True)
class MaskFeatures:
    """What the mask head needs of the image.

    Attributes:
        memory: (B, C, h8, w8) sum of the encoder's memory levels at stride 8.
        stride8: (B, C8, h8, w8) backbone map.
        stride4: (B, C4, h4, w4) backbone map.
        extent: (B, 2) float32 (width, height) of every image inside the padded canvas, in pixels.
    """

    memory: Tensor
    stride8: Tensor
    stride4: Tensor
    extent: Tensor


@dataclass(frozen=True)
class GroundingPrediction:
    """What the fusion says about every image token: is it on the referred person?

    Attributes:
        logits: (B + N, S), level after level: of the prompts, then of N captions beside them.
        padding: (B + N, S) bool, True on padding.
        rows: (B + N,) the prompt to whose person the logits belong; a caption's is that of its
            person.
        shapes: (h, w) of the levels.
    """

    logits: Tensor
    padding: Tensor
    rows: Tensor
    shapes: tuple[Size, ...]


@dataclass(frozen=True)
class TokenPredictions:
    """What the network says of every image token and cell.

    Attributes:
        proposals: all tokens that queries are selected from.
        grounding: the fusion's logits per image token; None where the fusion makes none.
        heatmaps: None where the network has none.
        canvas: (height, width) of the padded canvas in pixels.
    """

    proposals: TokenProposals
    grounding: GroundingPrediction | None
    heatmaps: HeatmapPrediction | None
    canvas: Size


@dataclass(frozen=True)
class EncodedImages:
    """P images as far as they do not depend on a prompt.

    Attributes:
        tokens: (P, S, C) tokens of all levels.
        positions: (P, S, C) their position encoding.
        padding: (P, S) bool, True on padding.
        valid_ratios: (P, L, 2) share of every level's (width, height) that is image.
        shapes: (h, w) of the levels.
        stride4: (P, C4, h4, w4) backbone map.
        stride8: (P, C8, h8, w8) backbone map.
        stride16: (P, C16, h16, w16) backbone map, which spatial prompts are read from.
        stride16_positions: (P, C, h16, w16) its position encoding.
        canvas: (height, width) of the padded canvas in pixels.
    """

    tokens: Tensor
    positions: Tensor
    padding: Tensor
    valid_ratios: Tensor
    shapes: tuple[Size, ...]
    stride4: Tensor
    stride8: Tensor
    stride16: Tensor
    stride16_positions: Tensor
    canvas: Size

    def __len__(self) -> int:
        """P."""
        return len(self.tokens)


@dataclass(frozen=True)
class FusedFeatures:
    """The images after they have met their prompts, before the encoder.

    Attributes:
        tokens: (B, S, C) fused tokens of all levels.
        positions: (B, S, C) their position encoding.
        padding: (B, S) bool, True on padding.
        valid_ratios: (B, L, 2) share of every level's (width, height) that is image.
        shapes: (h, w) of the levels.
        global_embedding: (B, C) the prompts' vectors.
        stride8: (B, C8, h8, w8) backbone map.
        stride4: (B, C4, h4, w4) backbone map.
        extent: (B, 2) float32 (width, height) of every image inside the padded canvas, in pixels.
        grounding: None where the fusion makes none.
        canvas: (height, width) of the padded canvas in pixels.
    """

    tokens: Tensor
    positions: Tensor
    padding: Tensor
    valid_ratios: Tensor
    shapes: tuple[Size, ...]
    global_embedding: Tensor
    stride8: Tensor
    stride4: Tensor
    extent: Tensor
    grounding: GroundingPrediction | None
    canvas: Size


@dataclass(frozen=True)
class Predictions:
    """Everything the network says about a batch; masks are made on request from `mask_features`.

    Attributes:
        layers: one prediction per decoder layer; the last is the final one.
        selection: the encoder's prediction for the selected tokens.
        mask_features: input of `UniPHD.mask_head`.
        tokens: what it says of all image tokens.
    """

    layers: tuple[LayerPrediction, ...]
    selection: SelectionPrediction
    mask_features: MaskFeatures
    tokens: TokenPredictions

    @property
    def final(self) -> LayerPrediction:
        """The last decoder layer's prediction."""
        return self.layers[-1]
