"""Where spatial prompts read the image."""

from __future__ import annotations

import pytest
import torch

from uniphd.prompts.box import sample_boxes
from uniphd.prompts.points import sample_points

CANVAS = (96, 128)
MAP = (6, 8)


def ramps() -> torch.Tensor:
    """A stride-16 map whose two channels are the cells' x and y indices."""
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    return torch.stack([x, y])[None]


def test_points_span_from_the_first_to_the_last_cell_centre() -> None:
    """grid_sample with align_corners=True (official release): pixel 0 is cell 0, W is w - 1."""
    points = torch.tensor([[[0.0, 0.0], [128.0, 96.0], [64.0, 24.0], [500.0, -7.0]]])
    sampled = sample_points(ramps(), points, CANVAS)
    expected = torch.tensor([[[0.0, 0.0], [7.0, 5.0], [3.5, 1.25], [7.0, 0.0]]])
    torch.testing.assert_close(sampled, expected)


def test_boxes_are_read_at_the_centres_of_a_four_by_four_grid() -> None:
    box = torch.tensor([[32.0, 24.0, 96.0, 72.0]])
    sampled = sample_boxes(ramps(), box, CANVAS)[0].view(4, 4, 2)
    for row in range(4):
        for column in range(4):
            x, y = 32 + 16 * (column + 0.5), 24 + 12 * (row + 0.5)
            expected = torch.tensor([x / 16 - 0.5, y / 16 - 0.5])
            torch.testing.assert_close(sampled[row, column], expected, atol=1e-4, rtol=0)


def test_boxes_are_clamped_to_the_canvas() -> None:
    inside = sample_boxes(ramps(), torch.tensor([[0.0, 0.0, 128.0, 96.0]]), CANVAS)
    outside = sample_boxes(ramps(), torch.tensor([[-50.0, -9.0, 900.0, 400.0]]), CANVAS)
    torch.testing.assert_close(outside, inside)


@pytest.mark.parametrize("box", [[10.0, 10.0, 10.0, 10.0], [40.0, 40.0, 20.0, 20.0]])
def test_degenerate_boxes_give_finite_tokens(box: list[float]) -> None:
    assert sample_boxes(ramps(), torch.tensor([box]), CANVAS).isfinite().all()
