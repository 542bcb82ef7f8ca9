from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from uniphd.ops import ms_deform_attn
from uniphd.ops.sampling import exporting, is_exporting, sample_bilinear, sample_by_gather


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3), (40, 40)])
def test_gathers_are_grid_sample(shape: tuple[int, int], align_corners: bool) -> None:
    torch.manual_seed(0)
    maps = torch.randn(3, 4, *shape)
    inside = torch.rand(3, 11, 9, 2) * 2 - 1
    corners = torch.tensor([-1.0, 0.0, 1.0])
    exact = torch.cartesian_prod(corners, corners).expand(3, 1, 9, 2)
    outside = torch.randn(3, 11, 9, 2) * 4
    grid = torch.cat([inside, exact, outside, torch.full((3, 1, 9, 2), 1e6)], dim=1)
    expected = F.grid_sample(maps, grid, align_corners=align_corners)
    torch.testing.assert_close(
        sample_by_gather(maps, grid, align_corners), expected, rtol=1e-5, atol=2e-5
    )


def test_gathers_have_the_gradient_of_grid_sample() -> None:
    torch.manual_seed(0)
    gradients = []
    for sample in (sample_by_gather, sample_bilinear):
        maps = torch.linspace(-1, 1, 60).view(1, 3, 4, 5).requires_grad_()
        grid = (
            torch.rand(1, 6, 2, 2, generator=torch.Generator().manual_seed(1)) * 3 - 1.5
        ).requires_grad_()
        sample(maps, grid, False).square().sum().backward()
        gradients.append((maps.grad, grid.grad))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_operator_by_gathers_is_the_operator() -> None:
    torch.manual_seed(0)
    shapes = [(6, 5), (3, 2)]
    value = torch.randn(2, 36, 4, 8)
    locations = torch.rand(2, 7, 4, 2, 3, 2) * 1.4 - 0.2
    weights = torch.rand(2, 7, 4, 2, 3)
    expected = ms_deform_attn(value, shapes, locations, weights)
    assert not is_exporting()
    with exporting("gather"):
        assert is_exporting()
        found = ms_deform_attn(value, shapes, locations, weights)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
