from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from uniphd.models.outputs import (
    LayerPrediction,
    MaskFeatures,
    Predictions,
    SelectionPrediction,
    TokenProposals,
)
from uniphd.structures import Target

QUERIES = 6
CHANNELS = 8
CANVAS = (32, 48)

MakeTarget = Callable[..., Target]
MakeLayer = Callable[..., LayerPrediction]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def make_target(generator: torch.Generator) -> MakeTarget:
    """A target with `people` people in an image of `size`."""

    def make(people: int, size: tuple[int, int] = CANVAS) -> Target:
        def rand(*shape: int) -> torch.Tensor:
            return torch.rand(people, *shape, generator=generator)

        return Target(
            labels=torch.ones(people, dtype=torch.int64),
            boxes=0.2 + 0.4 * rand(4),
            keypoints=rand(17, 2),
            visibility=(rand(17) > 0.3).float(),
            area=0.05 + 0.2 * rand(),
            masks=rand(*size) > 0.5,
        )

    return make


@pytest.fixture
def make_layer(generator: torch.Generator) -> MakeLayer:
    """A random layer prediction; everything requires gradients."""

    def make(images: int, queries: int = QUERIES) -> LayerPrediction:
        def randn(*shape: int) -> torch.Tensor:
            return torch.randn(images, queries, *shape, generator=generator)

        def leaf(values: torch.Tensor) -> torch.Tensor:
            return values.requires_grad_()

        return LayerPrediction(
            logits=leaf(randn(2)),
            boxes=leaf(randn(4).sigmoid()),
            keypoints=leaf(randn(17, 2).sigmoid()),
            visibility_logits=leaf(randn(17)),
            embedding=leaf(randn(CHANNELS)),
            centre=leaf(randn(2).sigmoid()),
        )

    return make


@pytest.fixture
def make_predictions(make_layer: MakeLayer) -> Callable[..., Predictions]:
    def make(images: int, layers: int = 3) -> Predictions:
        height, width = CANVAS
        first = make_layer(images)
        return Predictions(
            layers=tuple(make_layer(images) for _ in range(layers)),
            selection=SelectionPrediction(first.logits, first.keypoints),
            mask_features=MaskFeatures(
                memory=torch.zeros(images, CHANNELS, height // 8, width // 8),
                stride8=torch.zeros(images, 1, height // 8, width // 8),
                stride4=torch.zeros(images, 1, height // 4, width // 4),
                sizes=(CANVAS,) * images,
            ),
            proposals=TokenProposals(
                features=torch.zeros(images, 1, CHANNELS),
                centres=torch.zeros(images, 1, 2),
                invalid=torch.zeros(images, 1, dtype=torch.bool),
                shapes=((1, 1),),
            ),
        )

    return make
