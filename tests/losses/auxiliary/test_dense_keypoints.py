"""Dense keypoint supervision, against loops over people, levels and cells."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.losses.auxiliary.conftest import CANVAS, MakeInputs
from tests.losses.conftest import MakeTarget
from uniphd.errors import ConfigError
from uniphd.losses.auxiliary.dense_keypoints import DenseKeypointLoss
from uniphd.models.outputs import TokenProposals
from uniphd.structures import Target

SHAPES = ((4, 6), (2, 3))
TOKENS = 30
SIGMAS = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)  # COCO, thousandths


def poses(features: Tensor, centres: Tensor) -> Tensor:
    """A head without parameters: 34 features are offsets from the token."""
    return (centres.unsqueeze(-2) + features.unflatten(-1, (17, 2))).sigmoid()


def proposals(images: int, generator: torch.Generator) -> TokenProposals:
    features = torch.randn(images, TOKENS, 34, generator=generator).requires_grad_()
    centres = torch.randn(images, TOKENS, 2, generator=generator)
    invalid = torch.rand(images, TOKENS, generator=generator) < 0.2
    return TokenProposals(features, centres, invalid, SHAPES)


MODEL = SimpleNamespace(query_selection=SimpleNamespace(poses=poses))


def by_loops(loss: DenseKeypointLoss, tokens: TokenProposals, targets: list[Target]) -> float:
    total = 0.0
    for image, target in enumerate(targets):
        for person in range(len(target)):
            losses = []
            first = 0
            for height, width in SHAPES:
                rows, columns = CANVAS[0] // height, CANVAS[1] // width
                for cell in range(height * width):
                    y, x = cell // width * rows, cell % width * columns
                    share = target.masks[person, y : y + rows, x : x + columns].float().mean()
                    token = first + cell
                    if share < loss.min_occupancy or tokens.invalid[image, token]:
                        continue
                    features = tokens.features[image, token].detach()
                    answer = poses(features, tokens.centres[image, token])
                    l1 = similarity = 0.0
                    for k in range(17):
                        if not target.visibility[person, k]:
                            continue
                        offset = answer[k] - target.keypoints[person, k]
                        l1 += float(offset.abs().sum())
                        spread = 2 * float(target.area[person]) * (2 * SIGMAS[k] / 1000) ** 2
                        similarity += float(torch.exp(-offset.square().sum() / spread))
                    similarity /= float(target.visibility[person].sum()) + 1e-6
                    losses.append(
                        loss.keypoint_weight * l1 + loss.oks_weight * (1 - max(similarity, 1e-6))
                    )
                first += height * width
            total += sum(losses) / max(len(losses), 1)
    return total


@pytest.mark.parametrize("arguments", [{}, {"keypoint_weight": 0.0}, {"min_occupancy": 0.45}])
def test_equals_loops(
    arguments: dict[str, float],
    make_inputs: MakeInputs,
    make_target: MakeTarget,
    generator: torch.Generator,
) -> None:
    targets = [make_target(people, CANVAS) for people in (2, 1)]
    tokens = proposals(2, generator)
    loss = DenseKeypointLoss(1, **arguments)
    expected = by_loops(loss, tokens, targets) / 3
    assert expected > 0.1
    value = loss(make_inputs(targets, 3, model=MODEL, proposals=tokens)).item()
    assert value == pytest.approx(expected, rel=1e-5)


def test_only_tokens_on_a_person_get_a_gradient(
    make_inputs: MakeInputs, make_target: MakeTarget, generator: torch.Generator
) -> None:
    target = make_target(1, CANVAS)
    target.masks[:] = False
    # 8 x 8 pixels per cell of the first level: 0, 1 and half of 2; half of the second's first.
    target.masks[:, :8, :20] = True
    tokens = proposals(1, generator)
    tokens.invalid[:] = False
    tokens.invalid[0, 1] = True
    DenseKeypointLoss(1)(make_inputs([target], model=MODEL, proposals=tokens)).backward()
    assert tokens.features.grad is not None
    assert tokens.features.grad.abs().sum(-1)[0].nonzero().flatten().tolist() == [0, 2, 24]


def test_nobody_or_nobody_large_enough_is_no_danger(
    make_inputs: MakeInputs, make_target: MakeTarget, generator: torch.Generator
) -> None:
    small = make_target(1, CANVAS)
    small.masks[:] = False
    tokens = proposals(2, generator)
    targets = [make_target(0, CANVAS), small]
    loss = DenseKeypointLoss(1)(make_inputs(targets, model=MODEL, proposals=tokens))
    loss.backward()
    assert loss == 0
    assert tokens.features.grad is not None


@pytest.mark.parametrize("name", ["weight", "keypoint_weight", "oks_weight", "min_occupancy"])
def test_negative_numbers_are_refused(name: str) -> None:
    arguments: dict[str, Any] = {"weight": 1.0, name: -1.0}
    with pytest.raises(ConfigError, match=rf"{name}=-1.0.*negative"):
        DenseKeypointLoss(**arguments)
