from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torchvision.ops import box_convert, generalized_box_iou

from uniphd.losses.boxes import box_l1_loss, giou_loss


def _boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + 0.5 * torch.rand(count, 4, generator=generator, dtype=torch.float64)


def test_giou_agrees_with_torchvision_for_every_pair() -> None:
    a, b = _boxes(7, 0), _boxes(5, 1)
    xyxy = [box_convert(boxes, "cxcywh", "xyxy") for boxes in (a, b)]
    # The official epsilon of 1e-6 is all that separates the two.
    torch.testing.assert_close(
        giou_loss(a[:, None], b[None]), 1 - generalized_box_iou(*xyxy), atol=2e-4, rtol=0
    )


def test_giou_of_boxes_drawn_by_hand() -> None:
    # Two 2 x 2 squares, one apart: intersection 2, union 6, hull 6. Then two far apart: 8 of 20.
    a = torch.tensor([[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]])
    b = torch.tensor([[2.0, 1.0, 2.0, 2.0], [9.0, 1.0, 2.0, 2.0]])
    expected = torch.tensor([1 - 2 / 6, 1 + 12 / 20])
    torch.testing.assert_close(giou_loss(a, b), expected, atol=1e-5, rtol=0)


def test_gradients() -> None:
    a, b = _boxes(4, 2).requires_grad_(), _boxes(4, 3)
    assert gradcheck(giou_loss, (a, b))
    assert gradcheck(box_l1_loss, (a, b))


def test_boxes_without_area_have_finite_loss_and_gradient() -> None:
    a = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.3]], requires_grad=True)
    loss = giou_loss(a, torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.2, 0.2, 0.1, 0.1]]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_nan_boxes_give_nan_and_do_not_raise() -> None:
    a = torch.tensor([[float("nan"), 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]])
    loss = giou_loss(a, torch.full((2, 4), 0.5))
    assert loss.isnan().tolist() == [True, False]


@pytest.mark.parametrize("loss", [giou_loss, box_l1_loss])
def test_half_precision_is_computed_in_float32(loss: object) -> None:
    a, b = _boxes(4, 4).half(), _boxes(4, 5).half()
    assert callable(loss)
    assert torch.equal(loss(a, b), loss(a.float(), b.float()))


def test_l1_sums_the_four_numbers() -> None:
    assert box_l1_loss(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.zeros(4)).item() == 10
