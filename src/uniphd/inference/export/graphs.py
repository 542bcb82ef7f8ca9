"""The three graphs of a network: image -> features, text -> tokens, features and prompts -> people.

Inputs and outputs are found by name. Every output of the image encoder is an input of the decoder
by the same name.

Shapes: B prompts for one image, T tokens of the longest text, P points of the longest stroke, R
people per prompt, K keypoints, C channels, S tokens over the levels, H x W the canvas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from uniphd.inference.detect import TopK, choose, mask_logits, top_queries
from uniphd.inference.export.layout import DECODER, IMAGE_ENCODER, TEXT_ENCODER
from uniphd.models.outputs import EncodedImages
from uniphd.models.position import sine_position_1d
from uniphd.models.prompt_encoder import PromptTokens
from uniphd.models.uniphd import UniPHD
from uniphd.prompts.base import SpatialTokens
from uniphd.prompts.box import BoxBlock
from uniphd.prompts.points import PointsBlock
from uniphd.prompts.sources import TextMask
from uniphd.prompts.text import TextBlock
from uniphd.structures import Size

Tensors: TypeAlias = dict[str, Tensor]

_FEATURES = (
    *("tokens", "positions", "padding", "valid_ratios"),
    *("stride4", "stride8", "stride16", "stride16_positions"),
)


@dataclass(frozen=True)
class Graph:
    """A part of a network, ready to be traced.

    Attributes:
        module: takes tensors by name and returns tensors by name.
        example: of its inputs; free axes are 2 or longer, so that none is taken for a constant.
        free: by input, the names of the axes that may have any length.
        outputs: their names, in the order in which the module returns them.
    """

    module: nn.Module
    example: Tensors
    free: dict[str, dict[int, str]]
    outputs: tuple[str, ...]


def trace_graphs(network: UniPHD, canvas: Size) -> dict[str, Graph]:
    """The graphs of a network by name.

    Args:
        network: in evaluation mode, on the CPU.
        canvas: (height, width) of the images, in pixels.
    """
    image = {
        "image": torch.zeros(1, 3, *canvas, dtype=torch.uint8),
        "padding_mask": torch.zeros(1, *canvas, dtype=torch.bool),
    }
    text = {
        "input_ids": torch.full((3, 5), 2),
        "attention_mask": torch.ones(3, 5, dtype=torch.int64),
    }
    with torch.no_grad():
        encoded = network.encode(**{"images": image["image"], **_without(image, "image")})
    image_encoder = ImageEncoder(network)
    decoder = PromptDecoder(network, encoded.shapes, encoded.canvas)
    asked = _ask(network.prompt_encoder.hidden_dim)
    ask = {**image_encoder.named(encoded, image["padding_mask"]), **asked}
    return {
        IMAGE_ENCODER: _graph(image_encoder, image, {}),
        TEXT_ENCODER: _graph(
            TextEncoderGraph(network), text, {name: {0: "prompts", 1: "words"} for name in text}
        ),
        DECODER: _graph(decoder, ask, _FREE),
    }


_FREE = {
    "text_tokens": {0: "prompts", 1: "words"},
    "text_padding": {0: "prompts", 1: "words"},
    "text_embedding": {0: "prompts"},
    "points": {0: "prompts", 1: "points"},
    "points_padding": {0: "prompts", 1: "points"},
    "box": {0: "prompts"},
    "box_padding": {0: "prompts"},
    "ranks": {0: "people"},
}


class ImageEncoder(nn.Module):
    """What does not depend on the prompt, and the image's extent on the canvas."""

    def __init__(self, network: UniPHD) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, padding_mask: Tensor) -> Tensors:
        """Encode an image.

        Args:
            image: (1, 3, H, W) uint8 RGB, the image top left and zero beside it.
            padding_mask: (1, H, W) bool, True beside the image.
        """
        return self.named(self.network.encode(image, padding_mask), padding_mask)

    @staticmethod
    def named(encoded: EncodedImages, padding_mask: Tensor) -> Tensors:
        """The features by name, and `extent` (1, 2) float, the image's width and height."""
        inside = ~padding_mask
        extent = torch.stack([inside[:, 0].sum(1), inside[:, :, 0].sum(1)], dim=1).float()
        return {**{name: getattr(encoded, name) for name in _FEATURES}, "extent": extent}


class TextEncoderGraph(nn.Module):
    """Texts as the decoder takes them."""

    def __init__(self, network: UniPHD) -> None:
        super().__init__()
        self.prompt_encoder = network.prompt_encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensors:
        """Encode texts.

        Args:
            input_ids: (B, T) int64.
            attention_mask: (B, T) int64, 1 on tokens.
        """
        encoded = self.prompt_encoder.encode_text(TextBlock(input_ids, attention_mask))
        return {"text_tokens": encoded.tokens, "text_embedding": encoded.global_embedding}


class PromptDecoder(nn.Module):
    """The people that prompts of any kinds refer to.

    A prompt is a text, points or a box; the padding of the other two is True throughout.

    Args:
        network: the whole.
        shapes: (h, w) of the levels.
        canvas: (height, width) that the backbone saw, in pixels.
    """

    def __init__(self, network: UniPHD, shapes: tuple[Size, ...], canvas: Size) -> None:
        super().__init__()
        self.network = network
        self.shapes = shapes
        self.canvas = canvas

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        padding: Tensor,
        valid_ratios: Tensor,
        stride4: Tensor,
        stride8: Tensor,
        stride16: Tensor,
        stride16_positions: Tensor,
        extent: Tensor,
        text_tokens: Tensor,
        text_padding: Tensor,
        text_embedding: Tensor,
        points: Tensor,
        points_padding: Tensor,
        box: Tensor,
        box_padding: Tensor,
        ranks: Tensor,
    ) -> Tensors:
        """Find people.

        Args:
            tokens: this and the following are the image encoder's outputs, for one image.
            positions: see above.
            padding: see above.
            valid_ratios: see above.
            stride4: see above.
            stride8: see above.
            stride16: see above.
            stride16_positions: see above.
            extent: see above.
            text_tokens: (B, T, C) of the text encoder.
            text_padding: (B, T) bool, True where a text has fewer tokens.
            text_embedding: (B, C) of the text encoder.
            points: (B, P, 2) pixels (x, y) of the image on the canvas.
            points_padding: (B, P) bool, True where a prompt has fewer points.
            box: (B, 4) pixels, left, top, right, bottom.
            box_padding: (B,) bool, True where the prompt is no box.
            ranks: (R,) int64, which of the people by score: 0 is the best.

        Returns:
            `scores` (B, R), `boxes` (B, R, 4) left, top, right, bottom, `keypoints` (B, R, K, 2)
            (x, y), `visibility` (B, R, K), `queries` (B, R) and `mask_logits` (B, R, H, W).
            Coordinates are fractions of the image, mask logits are of the whole canvas.
        """
        encoded = EncodedImages(
            tokens=tokens,
            positions=positions,
            padding=padding,
            valid_ratios=valid_ratios,
            shapes=self.shapes,
            stride4=stride4,
            stride8=stride8,
            stride16=stride16,
            stride16_positions=stride16_positions,
            canvas=self.canvas,
        )
        is_text = box_padding & points_padding.all(1)
        spatial = self._read(encoded, points, points_padding, box, box_padding)
        prompt = self._join(text_tokens, text_padding, text_embedding, spatial, is_text)
        rows = torch.zeros_like(is_text, dtype=torch.int64)
        fused = self.network.meet(encoded, rows, extent[rows], prompt, TextMask(is_text))
        predictions = self.network.decode(fused)
        every = top_queries(predictions.final.logits, predictions.final.logits.shape[1])
        best = TopK(every.scores[:, ranks], every.queries[:, ranks])
        masks = mask_logits(self.network, predictions, best)
        return {**choose(predictions.final, best)._asdict(), "mask_logits": masks}

    def _read(
        self,
        encoded: EncodedImages,
        points: Tensor,
        points_padding: Tensor,
        box: Tensor,
        box_padding: Tensor,
    ) -> SpatialTokens:
        """Every prompt's points and box in the stride-16 map."""
        count = points.shape[0]
        features = encoded.stride16.expand(count, -1, -1, -1)
        positions = encoded.stride16_positions.expand(count, -1, -1, -1)
        at_points = PointsBlock(points, points_padding).read(features, positions, encoded.canvas)
        in_boxes = BoxBlock(box).read(features, positions, encoded.canvas)
        no_box = box_padding.unsqueeze(1).expand(-1, in_boxes.padding.shape[1])
        return SpatialTokens(
            torch.cat([at_points.features, in_boxes.features], dim=1),
            torch.cat([at_points.positions, in_boxes.positions], dim=1),
            torch.cat([at_points.padding, no_box], dim=1),
        )

    def _join(
        self,
        text_tokens: Tensor,
        text_padding: Tensor,
        text_embedding: Tensor,
        read: SpatialTokens,
        is_text: Tensor,
    ) -> PromptTokens:
        """Texts and what was read of the image as tokens of the same prompts."""
        any_token = read.padding & ~is_text.unsqueeze(1)  # a mean over no token is not defined
        spatial = self.network.prompt_encoder.encode_spatial(read._replace(padding=any_token))
        order = sine_position_1d(text_padding, text_tokens.shape[-1])
        return PromptTokens(
            tokens=torch.cat([text_tokens, spatial.tokens], dim=1),
            positions=torch.cat([order, spatial.positions], dim=1),
            padding=torch.cat([text_padding, read.padding], dim=1),
            global_embedding=torch.where(
                is_text.unsqueeze(1), text_embedding, spatial.global_embedding
            ),
        )


def _ask(channels: int) -> Tensors:
    """A text, points and a box."""
    kinds = torch.arange(3)
    return {
        "text_tokens": torch.zeros(3, 5, channels),
        "text_padding": (kinds != 0)[:, None].repeat(1, 5),
        "text_embedding": torch.zeros(3, channels),
        "points": torch.full((3, 7, 2), 9.0),
        "points_padding": (kinds != 1)[:, None].repeat(1, 7),
        "box": torch.tensor([3.0, 4.0, 21.0, 30.0]).repeat(3, 1),
        "box_padding": kinds != 2,
        "ranks": torch.arange(2),
    }


def _graph(module: nn.Module, example: Tensors, free: dict[str, dict[int, str]]) -> Graph:
    with torch.no_grad():
        outputs = module(**example)
    return Graph(module.eval(), example, free, tuple(outputs))


def _without(tensors: Tensors, name: str) -> Tensors:
    return {key: value for key, value in tensors.items() if key != name}
