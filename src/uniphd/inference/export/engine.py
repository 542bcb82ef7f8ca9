"""The engine that runs exported graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from uniphd.inference.detect import Chosen
from uniphd.inference.encoded import Engine, OutputSize, People
from uniphd.inference.export.graphs import Tensors
from uniphd.inference.export.layout import DECODER, IMAGE_ENCODER, TEXT_ENCODER
from uniphd.inference.export.prompt_inputs import prompt_inputs
from uniphd.prompts import PromptBatch
from uniphd.structures import Size


class Graphs(Protocol):
    """The graphs of an export, loaded."""

    def __call__(self, graph: str, inputs: Tensors) -> Tensors:
        """Run one of them on tensors by name; what it has no input for is left out."""
        ...


@dataclass(frozen=True, eq=False)
class GraphEngine(Engine):
    """Graphs and what their inputs are made with.

    Attributes:
        graphs: of the network.
        canvas: (height, width) of every image that they are given.
        queries: people that the decoder can give per prompt.
    """

    graphs: Graphs
    canvas: Size
    queries: int

    def compute_features(self, image: Tensor) -> Tensors:
        """See the base."""
        return self.graphs(IMAGE_ENCODER, image_inputs(image, self.canvas))

    def compute_people(
        self, features: Tensors, size: Size, prompts: PromptBatch, top_k: int
    ) -> People:
        """See the base."""
        channels = features["tokens"].shape[-1]
        asked = prompt_inputs(prompts, channels, lambda texts: self.graphs(TEXT_ENCODER, texts))
        ranks = torch.arange(min(top_k, self.queries))
        found = self.graphs(DECODER, {**features, **asked, "ranks": ranks})
        chosen = Chosen(**{name: found[name] for name in Chosen._fields})
        return People(chosen, found["mask_logits"])


def image_inputs(image: Tensor, canvas: Size) -> Tensors:
    """The image encoder's inputs for an image (3, h, w) that fits on the canvas."""
    border = (0, canvas[1] - image.shape[2], 0, canvas[0] - image.shape[1])
    padding_mask = F.pad(torch.zeros(1, *image.shape[1:], dtype=torch.bool), border, value=True)
    return {"image": F.pad(image[None], border), "padding_mask": padding_mask}


@dataclass(frozen=True)
class FitCanvas:
    """As large as the network is usually given an image, or as fits on the canvas.

    Attributes:
        transform: says what is usual.
        canvas: (height, width).
    """

    transform: OutputSize
    canvas: Size

    def output_size(self, size: Size) -> Size:
        """(height, width) of what becomes of an image of `size`."""
        wanted = self.transform.output_size(size)
        scale = min(most / side for most, side in zip(self.canvas, wanted, strict=True))
        if scale >= 1:
            return wanted
        height, width = (
            min(most, max(1, round(side * scale)))
            for most, side in zip(self.canvas, wanted, strict=True)
        )
        return height, width
