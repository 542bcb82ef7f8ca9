from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from uniphd.losses.masks import (
    dice_loss,
    half_resolution,
    mask_focal_loss,
    pairwise_dice_loss,
    pairwise_mask_focal_loss,
)


@pytest.fixture
def logits() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(2, 4, 5, 7, generator=generator, dtype=torch.float64)


@pytest.fixture
def masks() -> torch.Tensor:
    return torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(1)) > 0.6


@pytest.mark.parametrize(
    ("pairwise", "single"),
    [(pairwise_mask_focal_loss, mask_focal_loss), (pairwise_dice_loss, dice_loss)],
)
def test_pairwise_cost_is_the_loss_of_every_pair(
    pairwise: object, single: object, logits: torch.Tensor, masks: torch.Tensor
) -> None:
    assert callable(pairwise)
    assert callable(single)
    cost = pairwise(logits, masks)
    shape = (2, 4, 3, 5, 7)
    expected = single(logits[:, :, None].expand(shape), masks[:, None].expand(shape))
    assert cost.shape == (2, 4, 3)
    torch.testing.assert_close(cost, expected)


def test_half_resolution_takes_the_odd_pixels() -> None:
    full = torch.zeros(4, 6, dtype=torch.bool)
    full[1, 3] = True
    full[0, 0] = full[2, 2] = True
    assert half_resolution(full).nonzero().tolist() == [[0, 1]]


def test_dice_of_certain_masks() -> None:
    target = torch.zeros(2, 4, 4)
    target[:, :2] = 1
    certain = torch.stack([target[0], 1 - target[1]]) * 200 - 100
    # Right everywhere: 0. Wrong everywhere: 1 - (0 + 1) / (8 + 8 + 1).
    torch.testing.assert_close(dice_loss(certain, target), torch.tensor([0.0, 1 - 1 / 17]))


def test_focal_loss_of_an_undecided_mask() -> None:
    target = torch.zeros(1, 4, 4)
    target[0, 0] = 1  # a quarter of the pixels
    expected = (0.25 * 0.25 + 0.75 * 0.75) * 0.25 * torch.log(torch.tensor(2.0))
    torch.testing.assert_close(mask_focal_loss(torch.zeros(1, 4, 4), target)[0], expected)


def test_gradients(logits: torch.Tensor, masks: torch.Tensor) -> None:
    logits.requires_grad_()
    target = masks[:, :1].expand(2, 4, 5, 7)
    assert gradcheck(lambda x: mask_focal_loss(x, target), (logits,))
    assert gradcheck(lambda x: dice_loss(x, target), (logits,))


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[[1e4, -1e4], [-1e4, 1e4]]])[None]
    masks = torch.tensor([[[True, True], [False, False]]])[None]
    for loss in (pairwise_mask_focal_loss, pairwise_dice_loss, mask_focal_loss, dice_loss):
        assert loss(logits, masks).isfinite().all()
