from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.cocoeval import COCOeval
from torch.autograd import gradcheck
from torch.nn import functional as F

from uniphd.keypoints import COCO17
from uniphd.losses.keypoints import keypoint_l1_loss, oks_loss, visibility_loss
from uniphd.metrics.oks import keypoint_variance


@pytest.fixture
def poses() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(5, 17, 2, generator=generator, dtype=torch.float64)
    noise = 0.05 * torch.randn(5, 17, 2, generator=generator, dtype=torch.float64)
    visibility = (torch.rand(5, 17, generator=generator) > 0.4).double()
    area = 0.05 + 0.2 * torch.rand(5, generator=generator, dtype=torch.float64)
    variance = keypoint_variance(area, torch.tensor(COCO17.sigmas))
    return {"p": target + noise, "t": target, "v": visibility, "variance": variance}


def _coco_oks(
    predicted: torch.Tensor, target: torch.Tensor, visibility: torch.Tensor, area: float
) -> float:
    """pycocotools' own number for one person in an image of side 1."""
    evaluation = COCOeval(iouType="keypoints")
    triples = np.concatenate([target.numpy(), visibility.numpy()[:, None]], axis=1)
    truth: dict[str, Any] = {"keypoints": triples.ravel(), "bbox": [0, 0, 1, 1], "area": area}
    guess = np.concatenate([predicted.numpy(), np.ones((17, 1))], axis=1)
    evaluation._gts = {(1, 1): [truth]}
    evaluation._dts = {(1, 1): [{"keypoints": guess.ravel(), "score": 1.0}]}
    return float(evaluation.computeOks(1, 1)[0, 0])


def test_oks_is_cocos_on_a_square_image(poses: dict[str, torch.Tensor]) -> None:
    area = torch.linspace(0.05, 0.25, 5, dtype=torch.float64)
    p, t, v, _ = poses.values()
    ours = 1 - oks_loss(p, t, v, keypoint_variance(area, torch.tensor(COCO17.sigmas)))
    cocos = [_coco_oks(p[i], t[i], v[i], float(area[i])) for i in range(5)]
    np.testing.assert_allclose(ours.numpy(), cocos, atol=1e-6)
    assert 0.2 < ours.mean() < 0.95  # neither saturated nor perfect


def test_keypoints_that_are_not_labelled_do_not_matter(poses: dict[str, torch.Tensor]) -> None:
    p, t, v, a = poses.values()
    moved = torch.where(v[..., None] > 0, p, p + 1)
    assert torch.equal(keypoint_l1_loss(moved, t, v), keypoint_l1_loss(p, t, v))
    assert torch.equal(oks_loss(moved, t, v, a), oks_loss(p, t, v, a))


def test_l1_sums_over_coordinates(poses: dict[str, torch.Tensor]) -> None:
    p, t, v, _ = poses.values()
    shifted = t + torch.tensor([0.1, -0.3], dtype=torch.float64)
    torch.testing.assert_close(keypoint_l1_loss(shifted, t, v), 0.4 * v.sum(-1))
    assert (keypoint_l1_loss(p, t, v) > 0).all()


def test_pairwise_by_broadcasting_equals_one_by_one(poses: dict[str, torch.Tensor]) -> None:
    p, t, v, a = poses.values()
    pairwise = oks_loss(p[:, None], t[None], v[None], a[None])
    for i in range(5):
        for j in range(5):
            torch.testing.assert_close(pairwise[i, j], oks_loss(p[i], t[j], v[j], a[j]))


def test_gradients(poses: dict[str, torch.Tensor]) -> None:
    p, t, v, a = poses.values()
    p.requires_grad_()
    assert gradcheck(lambda x: oks_loss(x, t, v, a), (p,))
    assert gradcheck(lambda x: keypoint_l1_loss(x, t, v), (p,))
    assert gradcheck(lambda x: visibility_loss(x, v), (p[..., 0].detach().requires_grad_(),))


def test_empty_mask_and_nobody_labelled_stay_finite(poses: dict[str, torch.Tensor]) -> None:
    p, t, v, a = poses.values()
    p = p.float().requires_grad_()
    empty = keypoint_variance(torch.zeros(5), torch.tensor(COCO17.sigmas))
    loss = oks_loss(p, t, torch.zeros_like(v), a) + oks_loss(p, t, v, empty)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert p.grad is not None
    assert p.grad.isfinite().all()


def test_visibility_is_the_plain_mean(poses: dict[str, torch.Tensor]) -> None:
    logits = poses["p"][..., 0]
    expected = F.binary_cross_entropy_with_logits(logits, poses["v"])
    torch.testing.assert_close(visibility_loss(logits, poses["v"]), expected)
    assert visibility_loss(logits[:0], poses["v"][:0]).item() == 0
