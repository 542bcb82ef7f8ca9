"""Where the decoder looks: the points at which its deformable attention samples the image.

Shapes: B prompts, Q queries, K keypoints, H heads, L levels, P points per head and level, N
samples of one slot. A query is a group of 1 + K slots: the instance, then the keypoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from uniphd.models.decoder import DecoderLayer
from uniphd.models.deformable_attention import DeformableAttention
from uniphd.models.uniphd import UniPHD
from uniphd.structures import Batch, Size
from uniphd.visualization.canvas import OUTLINE, WHITE, Color, Pen, paint
from uniphd.visualization.viewport import whole

LEVEL_COLORS: tuple[Color, ...] = ((255, 214, 10), (0, 215, 80), (51, 153, 255), (233, 60, 172))
"""Of the samples, from the finest level to the coarsest."""

_DISCS = 0.016  # of the panel, which the discs of a single slot cover together

_Hook: TypeAlias = Callable[[DeformableAttention, tuple[Any, ...]], None]


@dataclass(frozen=True)
class LayerAttention:
    """What the slots of one decoder layer look at.

    Attributes:
        reference: (B, Q, 1 + K, L, 2) the points that they look around, as fractions of the padded
            canvas.
        locations: (B, Q, 1 + K, H, L, P, 2) where they sample it, likewise.
        weights: (B, Q, 1 + K, H, L, P) of the samples; they sum to one over the L levels and P
            points of every head.
    """

    reference: Tensor
    locations: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Samples:
    """The samples of one slot, in pixels of the image.

    Attributes:
        reference: (2,) the point that it looks around.
        points: (N, 2) where it looks; N = H * L * P.
        weights: (N,) how much that counts; they sum to one.
        levels: (N,) int, 0 for the finest map.
    """

    reference: npt.NDArray[np.float64]
    points: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    levels: npt.NDArray[np.int64]


@contextmanager
def record_attention(model: UniPHD) -> Iterator[list[LayerAttention]]:
    """Collect what the decoder looks at in every forward pass within the block.

    Yields:
        The list that one entry per decoder layer is appended to, in the order of their work.
    """
    seen: list[LayerAttention] = []
    with ExitStack() as hooks:
        for layer in model.decoder.layers:
            attention = cast(DecoderLayer, layer).cross_attention
            handle = attention.register_forward_pre_hook(_watch(seen, len(slot_names(model))))
            hooks.callback(handle.remove)
        yield seen


def slot_names(model: UniPHD) -> tuple[str, ...]:
    """What the slots of a query stand for."""
    return ("instance", *model.schema.names)


def _watch(seen: list[LayerAttention], slots: int) -> _Hook:
    def hook(attention: DeformableAttention, arguments: tuple[Any, ...]) -> None:
        query, reference, _, shapes, _ = arguments
        with torch.no_grad():
            locations, weights = attention.sample(query, reference, shapes)
        values = (
            value.detach().unflatten(1, (-1, slots)) for value in (reference, locations, weights)
        )
        seen.append(LayerAttention(*values))

    return hook


def samples_of(layer: LayerAttention, batch: Batch, row: int, query: int, slot: int) -> Samples:
    """What one slot looks at, in the image.

    Args:
        layer: what a decoder layer looked at in `batch`.
        batch: the prompts.
        row: the prompt's place in it.
        query: the query, such as the one with the best score.
        slot: 0 for the instance, 1 + k for keypoint k; see `slot_names`.
    """
    canvas = (batch.images.shape[-2], batch.images.shape[-1])
    scale = _to_image(canvas, batch.sizes[row], batch.original_sizes[row])
    weights = layer.weights[row, query, slot].double().cpu()
    heads, levels, points = weights.shape
    # The references of the levels are one point, but for the rounding of the maps' sizes.
    reference = layer.reference[row, query, slot, 0].double().cpu().numpy()
    locations = layer.locations[row, query, slot].double().cpu().flatten(0, 2).numpy()
    level = torch.arange(levels).view(1, levels, 1).expand(heads, levels, points)
    return Samples(
        reference=reference * scale,
        points=locations * scale,
        weights=(weights / heads).flatten().numpy(),
        levels=level.flatten().numpy(),
    )


def render_samples(image: Image.Image, samples: Sequence[Samples], panel: Size) -> Image.Image:
    """The image, darkened, with a disc per sample; its area tells the weight.

    Colours tell the level (`LEVEL_COLORS`), a white ring marks the point that a slot looks around.
    Samples outside of the image, which read zeros, are cut off.

    Args:
        image: the image.
        samples: of one slot or several, at least one.
        panel: (height, width) that the image is made to fit.
    """
    view = whole((image.height, image.width), panel)
    rendered = view.crop(image).point([round(0.55 * value) for value in range(256)] * 3)
    # Several slots' discs are smaller, so that they do not hide the image.
    share = _DISCS / math.sqrt(len(samples))
    unit = math.sqrt(rendered.width * rendered.height * share / math.pi)

    def draw(pen: Pen) -> None:
        for slot in samples:
            places = view.map_points(slot.points)
            for index in np.argsort(-slot.weights):
                color = LEVEL_COLORS[slot.levels[index] % len(LEVEL_COLORS)]
                x, y = places[index].tolist()
                pen.disc((x, y), unit * math.sqrt(slot.weights[index]), color)
        for slot in samples:
            x, y = view.map_points(slot.reference).tolist()
            for radius, color in ((5.0, OUTLINE), (4.2, WHITE), (2.6, OUTLINE)):
                pen.disc((x, y), radius, color)

    return paint(rendered, draw)


def _to_image(canvas: Size, size: Size, original: Size) -> npt.NDArray[np.float64]:
    """Factor (2,) for (x, y) from fractions of the padded canvas to pixels of the image."""
    height, width = (c * o / s for c, o, s in zip(canvas, original, size, strict=True))
    return np.array([width, height])
