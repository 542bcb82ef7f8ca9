"""The mask head against its definition, and its resizing against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from uniphd.models.mask_head import MaskHead, relative_coordinates, resize_bicubic, sum_levels
from uniphd.models.outputs import MaskFeatures
from uniphd.structures import Size


@pytest.mark.parametrize(
    ("old", "new"), [((3, 5), (12, 20)), ((7, 4), (13, 9)), ((1, 2), (2, 3)), ((9, 8), (4, 8))]
)
def test_matrix_products_resize_as_pytorch_does(old: Size, new: Size) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 3, *old, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, *new, dtype=torch.float64)
    expected = F.interpolate(maps, new, mode="bicubic")
    actual = resize_bicubic(maps, new)
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-6)
    gradients = [torch.autograd.grad((x * weights).sum(), maps) for x in (expected, actual)]
    torch.testing.assert_close(*gradients, rtol=0, atol=5e-6)


def test_levels_are_added_at_the_size_and_in_the_type_of_the_first() -> None:
    torch.manual_seed(0)
    levels = [torch.randn(1, 4, *size, dtype=torch.bfloat16) for size in ((8, 6), (4, 3), (2, 2))]
    total = sum_levels(levels)
    assert total.dtype == torch.bfloat16
    expected = sum(F.interpolate(level.float(), (8, 6), mode="bicubic") for level in levels)
    torch.testing.assert_close(total.float(), expected, rtol=0.02, atol=0.05)


@pytest.fixture
def features() -> MaskFeatures:
    """Two images on a canvas of 32 x 48 pixels; the second one is smaller."""
    torch.manual_seed(0)
    return MaskFeatures(
        memory=torch.randn(2, 8, 4, 6),
        stride8=torch.randn(2, 5, 4, 6),
        stride4=torch.randn(2, 3, 8, 12),
        extent=torch.tensor([[48.0, 32.0], [40.0, 20.0]]),
    )


def test_coordinates_point_from_a_pixel_to_the_centre(features: MaskFeatures) -> None:
    centre = torch.tensor([[[0.5, 0.25]], [[0.5, 0.25]]])
    relative = relative_coordinates(features, centre).unflatten(-1, (4, 6))
    # Row 1, column 3 of stride 8 is the pixel (28, 12); the image's own size scales the centre.
    assert relative[0, 0, :, 1, 3].tolist() == [24 - 28, 8 - 12]
    assert relative[1, 0, :, 1, 3].tolist() == [20 - 28, 5 - 12]


@torch.no_grad()
def test_every_query_generates_two_convolutions(features: MaskFeatures) -> None:
    head = MaskHead(hidden_dim=8, stride4_dim=3, stride8_dim=5)
    embedding, centre = torch.randn(2, 3, 8), torch.rand(2, 3, 2)
    coarse = head.coarse(features, embedding, centre)
    relative = relative_coordinates(features, centre).unflatten(-1, (4, 6))
    for image in range(2):
        for query in range(3):
            numbers = head.controller(embedding[image, query])
            first, second, bias1, bias2 = numbers.split([160, 256, 16, 16])
            source = torch.cat([features.memory[image], relative[image, query]])
            hidden = F.conv2d(source, first.view(16, 10, 1, 1), bias1).relu()
            expected = F.conv2d(hidden, second.view(16, 16, 1, 1), bias2)
            torch.testing.assert_close(coarse[image, query], expected, atol=1e-4, rtol=1e-4)
