"""The learned graph of the decoder: how strongly the slots of a query listen to each other.

Shapes: H heads, S = 1 + K slots: the instance, then the K keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import cast

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from uniphd.keypoints import KeypointSchema
from uniphd.models.decoder import DecoderLayer
from uniphd.models.uniphd import UniPHD


def adjacency_matrices(model: UniPHD) -> list[Tensor]:
    """The learned adjacency matrix (H, S, S) of every decoder layer that has one, on the CPU.

    Its entry [head, a, b] is added to the logit with which slot a attends to slot b.
    """
    learned = [cast(DecoderLayer, layer).adjacency for layer in model.decoder.layers]
    return [matrix.detach().float().cpu() for matrix in learned if matrix is not None]


def plot_adjacency(matrix: Tensor, schema: KeypointSchema, title: str = "") -> Figure:
    """Heat map of one layer's matrix, the mean over its heads, with the keypoints' names.

    The colours span the pairs of different slots: after `attention_start=local` the diagonal is far
    above them all, and they would look the same.

    Args:
        matrix: (H, S, S).
        schema: which K keypoints the slots stand for.
        title: above the map.
    """
    mean = matrix.mean(dim=0).numpy()
    itself = np.eye(len(mean), dtype=bool)
    limit = float(np.abs(mean[~itself]).max())
    names = [name.replace("_", " ") for name in ("instance", *schema.names)]
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(mean, cmap="RdBu_r", vmin=-limit, vmax=limit)
    beyond = "both" if np.abs(mean).max() > limit else "neither"
    figure.colorbar(image, shrink=0.8, extend=beyond, label="added to the attention logit")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("listens to")
    axes.set_ylabel("slot")
    axes.set_title(title)
    return figure


def adjacency_image(matrix: Tensor, schema: KeypointSchema, title: str = "") -> Image.Image:
    """The heat map of `plot_adjacency` as an RGB image."""
    file = BytesIO()
    plot_adjacency(matrix, schema, title).savefig(file, format="png", dpi=100)
    return Image.open(file).convert("RGB")


def mean_by_relation(matrix: Tensor, schema: KeypointSchema) -> dict[str, float]:
    """The mean entry of a matrix for pairs of slots that are related in the same way.

    Args:
        matrix: (H, S, S).
        schema: which K keypoints the slots stand for.

    Returns:
        Means over the heads and the pairs: a slot and itself, the two ends of a bone, a keypoint
        and its mirror image, keypoints otherwise, the instance and a keypoint.
    """
    mean = matrix.mean(dim=0).numpy()
    return {name: float(mean[pairs].mean()) for name, pairs in _relations(schema).items()}


def _relations(schema: KeypointSchema) -> Mapping[str, npt.NDArray[np.bool_]]:
    """(S, S) bool per relation; every pair of slots is in exactly one of them."""
    slots = 1 + len(schema)
    itself = np.eye(slots, dtype=bool)
    instance = np.zeros((slots, slots), dtype=bool)
    instance[0], instance[:, 0] = True, True
    bones, mirrored = np.zeros_like(itself), np.zeros_like(itself)
    for start, end in schema.edges:
        bones[1 + start, 1 + end] = bones[1 + end, 1 + start] = True
    for left, right in enumerate(schema.flip_order):
        mirrored[1 + left, 1 + right] = True
    mirrored &= ~itself & ~bones
    instance &= ~itself
    return {
        "itself": itself,
        "two ends of a bone": bones,
        "left and right": mirrored,
        "other keypoints": ~(itself | bones | mirrored | instance),
        "instance and keypoint": instance,
    }
