from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.models.outputs import (
    LayerPrediction,
    MaskFeatures,
    Predictions,
    SelectionPrediction,
    TokenPredictions,
    TokenProposals,
)
from uniphd.structures import Target

QUERIES = 6
CHANNELS = 8
CANVAS = (32, 48)

MakeTarget = Callable[..., Target]
MakeLayer = Callable[..., LayerPrediction]
MakePredictions = Callable[..., Predictions]


class FakeMaskHead(nn.Module):
    """A mask head with the real one's shapes that remembers what it was asked."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, 16)
        self.scale = nn.Parameter(torch.ones(()))
        self.asked: list[int] = []
        self.refined: list[int] = []

    @property
    def mask_head(self) -> FakeMaskHead:
        """The criterion asks the model for its mask head; this one stands for both."""
        return self

    def coarse(self, features: MaskFeatures, embedding: Tensor, centre: Tensor) -> Tensor:
        self.asked.append(embedding.shape[1])
        maps = self.project(embedding) + centre.sum(-1, keepdim=True)
        return maps[..., None, None].expand(*maps.shape, *features.memory.shape[-2:])

    def low_resolution(self, coarse: Tensor) -> Tensor:
        return F.pixel_shuffle(coarse, 4).squeeze(2)

    def refine(self, features: MaskFeatures, coarse: Tensor) -> Tensor:
        self.refined.append(coarse.shape[1])
        return F.interpolate(self.scale * self.low_resolution(coarse), scale_factor=2)


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
def make_predictions(make_layer: MakeLayer) -> MakePredictions:
    def make(images: int, layers: int = 3, queries: int = QUERIES) -> Predictions:
        height, width = CANVAS
        first = make_layer(images, queries)
        return Predictions(
            layers=tuple(make_layer(images, queries) for _ in range(layers)),
            selection=SelectionPrediction(first.logits, first.keypoints),
            mask_features=MaskFeatures(
                memory=torch.zeros(images, CHANNELS, height // 8, width // 8),
                stride8=torch.zeros(images, 1, height // 8, width // 8),
                stride4=torch.zeros(images, 1, height // 4, width // 4),
                extent=torch.tensor([[width, height]] * images, dtype=torch.float32),
            ),
            tokens=TokenPredictions(
                TokenProposals(
                    features=torch.zeros(images, 1, CHANNELS),
                    centres=torch.zeros(images, 1, 2),
                    invalid=torch.zeros(images, 1, dtype=torch.bool),
                    shapes=((1, 1),),
                ),
                grounding=None,
                heatmaps=None,
                canvas=CANVAS,
            ),
        )

    return make


@pytest.fixture
def mask_head() -> FakeMaskHead:
    torch.manual_seed(0)
    return FakeMaskHead(channels=8)
