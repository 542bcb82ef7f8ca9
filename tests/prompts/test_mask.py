"""Mask prompts: coarse and degraded masks, and the pixels that they are read at."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

from uniphd.data.sample import AnnotatedPerson
from uniphd.errors import PromptError
from uniphd.prompts import MaskPrompt
from uniphd.prompts.mask import spread_points


def iou(a: Tensor, b: Tensor) -> float:
    return float((a & b).sum() / (a | b).sum())


def mask_of(someone: AnnotatedPerson) -> Tensor:
    return someone.mask[0].bool()


def test_the_evaluations_mask_has_twelve_square_cells(someone: AnnotatedPerson) -> None:
    """Cell by cell, by numpy: inside where half of it is covered."""
    mask = mask_of(someone).numpy()
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    top, left = rows[0], columns[0]
    side = -(-max(rows[-1] - top + 1, columns[-1] - left + 1) // 12)
    expected = np.zeros_like(mask)
    for y in range(top, rows[-1] + 1, side):
        for x in range(left, columns[-1] + 1, side):
            covered = mask[y : y + side, x : x + side].sum() / side**2
            expected[y : y + side, x : x + side] = covered >= 0.5
    coarse = MaskPrompt.fixed(someone).mask
    np.testing.assert_array_equal(coarse.numpy(), expected)
    assert 0.5 < iou(coarse, mask_of(someone)) < 0.95


def test_training_masks_differ_and_stay_about_the_person(someone: AnnotatedPerson) -> None:
    masks = [MaskPrompt.sample(someone, Random(number)).mask for number in range(60)]
    again = MaskPrompt.sample(someone, Random(7)).mask
    assert torch.equal(again, masks[7])
    assert len({mask.numpy().tobytes() for mask in masks}) == 60
    overlaps = sorted(iou(mask, mask_of(someone)) for mask in masks)
    assert overlaps[6] > 0.3  # few are far off
    assert 0.5 < overlaps[30] < 0.9
    assert {mask.shape for mask in masks} == {mask_of(someone).shape}
    areas = [float(mask.sum() / mask_of(someone).sum()) for mask in masks]
    assert min(areas) < 0.8  # some are eroded
    assert max(areas) > 1.15  # some are dilated


@pytest.mark.parametrize("place", [(0, 0), (276, 380), (140, 0), (276, 200)])
def test_a_person_of_one_pixel_keeps_a_mask(
    someone: AnnotatedPerson, place: tuple[int, int]
) -> None:
    mask = torch.zeros_like(someone.mask)
    mask[0][place] = 1
    tiny = replace(someone, mask=mask)
    for prompt in (MaskPrompt.fixed(tiny), *(MaskPrompt.sample(tiny, Random(n)) for n in range(9))):
        prompt.require_sound()
        prompt.require_inside(tiny.size)
        assert spread_points(prompt.mask).shape[0] >= 1


def test_a_thin_person_keeps_the_most_covered_cells(someone: AnnotatedPerson) -> None:
    mask = torch.zeros_like(someone.mask)
    mask[0, 20:260, 100] = 1  # a line covers a twentieth of any cell
    thin = MaskPrompt.fixed(replace(someone, mask=mask)).mask
    assert thin.sum() == 240 * 20


def test_points_stand_for_equal_parts_of_the_area(someone: AnnotatedPerson) -> None:
    mask = mask_of(someone)
    points = spread_points(mask)
    assert points.shape == (16, 2)
    x, y = points.long().T
    assert mask[y, x].all()
    assert len(set(map(tuple, points.tolist()))) == 16
    # The mean of the points is about the mean of all pixels, as a mean over the mask asks for.
    centre = mask.nonzero().flip(1).float().mean(0)
    extent = someone.box[0, 2:] - someone.box[0, :2]
    assert ((points.mean(0) - centre).abs() / extent < 0.05).all()


def test_points_of_a_rectangle_are_a_grid() -> None:
    mask = torch.zeros(50, 90, dtype=torch.bool)
    mask[10:50, 8:88] = True  # 40 rows of 80 pixels
    points = spread_points(mask).view(4, 4, 2)
    expected = torch.tensor([18.0, 38.0, 58.0, 78.0])
    assert torch.equal(points[..., 0], expected.expand(4, 4))
    for band in range(4):
        assert (
            (points[band, :, 1] >= 10 + 10 * band) & (points[band, :, 1] < 20 + 10 * band)
        ).all()


def test_few_pixels_are_all_read() -> None:
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[1, 2], mask[4, 6] = True, True
    assert spread_points(mask).tolist() == [[2, 1], [6, 4]]
    block = MaskPrompt.collate([MaskPrompt(mask), MaskPrompt(mask.roll(1) | mask)], None)  # type: ignore[arg-type]
    assert block.padding.tolist() == [[False, False, True, True], [False] * 4]


def test_a_resized_mask_keeps_a_pixel() -> None:
    mask = torch.zeros(101, 81, dtype=torch.bool)
    mask[99, 79] = True
    assert MaskPrompt(mask).resized((101, 81), (10, 8)).mask.nonzero().tolist() == [[9, 7]]


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (torch.zeros(3, 4, dtype=torch.bool), "empty"),
        (torch.ones(3, 4), r"shape \(3, 4\) and the type torch.float32; give"),
        (torch.ones(1, 3, 4, dtype=torch.bool), r"shape \(1, 3, 4\)"),
    ],
)
def test_unsound_masks_are_refused(mask: Tensor, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        MaskPrompt(mask).require_sound()


def test_a_mask_of_another_size_is_refused() -> None:
    mask = MaskPrompt(torch.ones(30, 40, dtype=torch.bool))
    mask.require_inside((30, 40))
    with pytest.raises(PromptError, match="40 x 30 pixels and is outside of its 30 x 40 image"):
        mask.require_inside((40, 30))
