"""The mask head's resizing against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from uniphd.models.mask_head import resize_bicubic, sum_levels
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
