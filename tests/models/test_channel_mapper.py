"""The neck's levels."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from uniphd.errors import ConfigError
from uniphd.models.channel_mapper import ChannelMapper


@torch.no_grad()
def test_levels_are_convolutions_and_group_norms() -> None:
    """One level per map, then further ones of half the size; the first of the last map itself."""
    torch.manual_seed(0)
    neck = ChannelMapper([4, 6], hidden_dim=64, num_levels=4)
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    fine, coarse = torch.randn(2, 4, 9, 12), torch.randn(2, 6, 5, 6)
    levels = neck([fine, coarse])
    assert [tuple(level.shape[2:]) for level in levels] == [(9, 12), (5, 6), (3, 3), (2, 2)]
    for index, source, kernel in (
        (0, fine, 1),
        (1, coarse, 1),
        (2, coarse, 3),
        (3, levels[2], 3),
    ):
        convolution, norm = neck.levels[index]
        stride, padding = (2, 1) if kernel == 3 else (1, 0)
        expected = F.conv2d(source, convolution.weight, convolution.bias, stride, padding)
        grouped = expected.unflatten(1, (32, 2)).flatten(2)
        mean, variance = grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, correction=0)
        expected = ((grouped - mean) / (variance + 1e-5).sqrt()).view_as(expected)
        expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
        assert convolution.kernel_size == (kernel, kernel)
        torch.testing.assert_close(levels[index], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("hidden_dim", "num_levels", "says"),
    [(48, 4, "hidden_dim=48 is not a multiple of 32"), (64, 2, "num_levels=2 leaves out")],
)
def test_impossible_sizes_are_refused(hidden_dim: int, num_levels: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ChannelMapper([8, 16, 32], hidden_dim, num_levels)
