from __future__ import annotations

import torch
from torchvision.ops import sigmoid_focal_loss

from uniphd.losses.focal import class_loss, pairwise_class_cost


def test_cost_is_the_change_of_loss_when_the_query_becomes_positive() -> None:
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 2], [0, 1]])
    cost = pairwise_class_cost(logits, labels)
    background = class_loss(logits, torch.zeros_like(logits))
    for image, query, person in [(0, 0, 0), (0, 3, 1), (1, 4, 0), (1, 2, 1)]:
        one_hot = torch.zeros_like(logits)
        one_hot[image, query, labels[image, person]] = 1
        change = class_loss(logits, one_hot) - background
        torch.testing.assert_close(cost[image, query, person], change, atol=1e-5, rtol=1e-5)


def test_loss_sums_over_everything() -> None:
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    one_hot = torch.zeros_like(logits)
    one_hot[0, 1, 2] = 1
    torch.testing.assert_close(
        class_loss(logits, one_hot), sigmoid_focal_loss(logits, one_hot).sum()
    )


def test_confident_logits_stay_finite() -> None:
    logits = torch.tensor([[[1e4, -1e4], [-1e4, 1e4]]], dtype=torch.float16)
    cost = pairwise_class_cost(logits, torch.tensor([[1]]))
    assert cost.dtype == torch.float32
    assert cost.isfinite().all()
    assert cost[0, 1, 0] < 0 < cost[0, 0, 0]
