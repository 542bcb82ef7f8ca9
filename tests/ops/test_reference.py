"""The reference against a loop, numbers known by hand, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tests.ops.loop import Call, Shapes, loop, make_call
from uniphd.ops.reference import ms_deform_attn_reference


@pytest.mark.parametrize("shapes", [((1, 1),), ((2, 9),), ((7, 5), (4, 3), (1, 1), (1, 6))])
def test_equals_the_loop(shapes: Shapes) -> None:
    call = make_call(shapes, queries=5)
    np.testing.assert_allclose(ms_deform_attn_reference(*call), loop(call), atol=1e-13)


def one_point(x: float, y: float, shapes: Shapes = ((2, 3),)) -> torch.Tensor:
    """A sample of weight 1 from cells that hold 1, 2, 3 ... in raster order."""
    tokens = sum(height * width for height, width in shapes)
    value = torch.arange(1.0, tokens + 1).view(1, tokens, 1, 1)
    locations = torch.tensor([x, y]).expand(1, 1, 1, len(shapes), 1, 2)
    weights = torch.ones(1, 1, 1, len(shapes), 1)
    return ms_deform_attn_reference(value, shapes, locations, weights).squeeze()


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (1 / 6, 1 / 4, 1.0),  # centre of the first cell
        (5 / 6, 3 / 4, 6.0),  # centre of the last
        (1 / 2, 1 / 4, 2.0),  # x counts columns
        (1 / 3, 1 / 2, 3.0),  # where four cells meet: (1 + 2 + 4 + 5) / 4
        (0.0, 1 / 4, 0.5),  # on the border half is outside, where zeros lie
        (1.0, 1.0, 1.5),  # a corner: three quarters outside
        (-1 / 6, 1 / 4, 0.0),  # one cell outside
    ],
)
def test_known_numbers(x: float, y: float, expected: float) -> None:
    torch.testing.assert_close(one_point(x, y), torch.tensor(expected), atol=1e-5, rtol=0)


def test_levels_follow_each_other() -> None:
    both = one_point(0.5, 0.5, ((1, 1), (1, 3)))
    torch.testing.assert_close(both, torch.tensor(1.0 + 3.0))


def test_half_precision_values_keep_precise_locations() -> None:
    """A location in bfloat16 would fall on another cell of an axis of 1001 cells."""
    value = torch.arange(1001.0).view(1, 1001, 1, 1) % 2
    locations = torch.tensor([700.5 / 1001, 0.5]).view(1, 1, 1, 1, 1, 2)
    for cell in (700.5, 701.5):
        locations[..., 0] = cell / 1001
        output = ms_deform_attn_reference(
            value.bfloat16(), ((1, 1001),), locations, torch.ones(1, 1, 1, 1, 1)
        )
        assert output.dtype == torch.bfloat16
        assert abs(output.item() - (cell - 0.5) % 2) < 0.01


def test_gradients_by_finite_differences() -> None:
    call = make_call(((3, 2), (1, 1)), batch=1, queries=2, heads=2, channels=2, points=2).leaves()
    assert gradcheck(
        lambda *tensors: ms_deform_attn_reference(tensors[0], call.shapes, *tensors[1:]),
        call.tensors,
    )


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"queries": 0}])
def test_nothing_in_nothing_out(sizes: dict[str, int]) -> None:
    call: Call = make_call(**sizes)
    assert ms_deform_attn_reference(*call).shape == (len(call.value), call.locations.shape[1], 24)
