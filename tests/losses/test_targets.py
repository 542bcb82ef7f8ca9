from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from uniphd.losses.targets import count_instances, stack_masks, stack_targets
from uniphd.structures import Target

MakeTarget = Callable[..., Target]


def test_targets_side_by_side(make_target: MakeTarget) -> None:
    targets = [make_target(1), make_target(3), make_target(0)]
    sigmas = torch.linspace(0.02, 0.1, 17)
    stacked = stack_targets(targets, sigmas)
    assert stacked.counts == (1, 3, 0)
    assert stacked.keypoints.shape == (3, 3, 17, 2)
    for i, target in enumerate(targets):
        for name in ("labels", "boxes", "keypoints", "visibility"):
            assert torch.equal(getattr(stacked, name)[i, : len(target)], getattr(target, name))
        variance = target.area[:, None] * 4 * sigmas**2
        torch.testing.assert_close(stacked.variance[i, : len(target)], variance)


def test_masks_lie_top_left_on_an_empty_canvas(make_target: MakeTarget) -> None:
    targets = [make_target(1, (5, 7)), make_target(2, (8, 4))]
    masks = stack_masks(targets, (8, 16))
    assert masks.shape == (2, 2, 8, 16)
    assert masks.dtype == torch.bool
    assert torch.equal(masks[0, :1, :5, :7], targets[0].masks)
    assert torch.equal(masks[1, :, :8, :4], targets[1].masks)
    assert masks.sum() == sum(target.masks.sum() for target in targets)


@pytest.mark.parametrize(("people", "expected"), [((), 1), ((0,), 1), ((1, 0, 3), 4)])
def test_count_of_people(make_target: MakeTarget, people: tuple[int, ...], expected: int) -> None:
    assert count_instances([make_target(n) for n in people]) == expected
