"""The loss of heatmaps, against PyTorch's cross-entropy with targets made by loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tests.losses.auxiliary.conftest import MakeInputs
from tests.losses.conftest import MakeTarget
from uniphd.losses.auxiliary.heatmaps import HeatmapLoss
from uniphd.models.outputs import HeatmapPrediction
from uniphd.structures import Target

SHAPE = (8, 12)
K = 17


def prediction(logits: torch.Tensor, columns: int = 12, rows: int = 8) -> HeatmapPrediction:
    """Maps (B, K, 8, 12) of images that cover the first rows and columns."""
    y, x = torch.meshgrid(torch.arange(8), torch.arange(12), indexing="ij")
    centres = torch.stack([(x + 0.5) / columns, (y + 0.5) / rows], dim=-1).flatten(0, 1)
    outside = (centres > 1).any(-1)
    batch = len(logits)
    return HeatmapPrediction(
        logits.flatten(2).masked_fill(outside, -math.inf),
        centres.expand(batch, -1, -1),
        torch.tensor([[columns, rows]]).float().expand(batch, -1),
        SHAPE,
    )


def wanted(x: float, y: float, columns: int = 12, rows: int = 8) -> torch.Tensor:
    """The distribution (8, 12) that bilinear interpolation reads at a point (x, y) in [0, 1]."""
    share = torch.zeros(SHAPE)
    for row in range(rows):
        for column in range(columns):
            # A point outside of the outermost cells' centres belongs to these cells.
            place_x = min(max(x * columns - 0.5, 0), columns - 1)
            place_y = min(max(y * rows - 0.5, 0), rows - 1)
            share[row, column] = max(0, 1 - abs(place_x - column)) * max(0, 1 - abs(place_y - row))
    return share


def by_loops(maps: HeatmapPrediction, targets: list[Target], columns: int, rows: int) -> float:
    total = 0.0
    for image, target in enumerate(targets):
        for person in range(len(target)):
            losses = []
            for k in range(K):
                if target.visibility[person, k]:
                    x, y = target.keypoints[person, k].tolist()
                    share = wanted(x, y, columns, rows).flatten()
                    logits = maps.logits[image, k]
                    used = logits.isfinite()
                    losses.append(F.cross_entropy(logits[used], share[used]).item())
            total += sum(losses) / max(len(losses), 1)
    return total


@pytest.mark.parametrize(("columns", "rows"), [(12, 8), (9, 6)])
def test_equals_loops(
    columns: int,
    rows: int,
    make_inputs: MakeInputs,
    make_target: MakeTarget,
    generator: torch.Generator,
) -> None:
    targets = [make_target(people) for people in (2, 0, 1)]
    targets[0].keypoints[0, :4] = torch.tensor([[0, 0], [1, 1], [0.999, 0.001], [0.5, 1]])
    targets[0].visibility[0, :4] = 1
    maps = prediction(torch.randn(3, K, *SHAPE, generator=generator), columns, rows)
    value = HeatmapLoss(1)(make_inputs(targets, 3, heatmaps=maps)).item()
    assert value == pytest.approx(by_loops(maps, targets, columns, rows) / 3, rel=1e-5)


def test_its_least_value_says_the_very_keypoint(
    make_inputs: MakeInputs, make_target: MakeTarget
) -> None:
    target = make_target(1)
    target.keypoints[:] = 0.1 + 0.8 * target.keypoints
    target.visibility[:] = 1
    share = torch.stack([wanted(*point.tolist()) for point in target.keypoints[0]])
    maps = prediction(share.clamp(min=1e-30).log().unsqueeze(0))
    entropy = torch.special.entr(share).sum((1, 2)).mean().item()
    assert HeatmapLoss(1)(make_inputs([target], heatmaps=maps)).item() == pytest.approx(
        entropy, rel=1e-5
    )
    mean = maps.logits.softmax(-1) @ maps.centres
    torch.testing.assert_close(mean, target.keypoints)


def test_what_is_not_labelled_gets_no_gradient(
    make_inputs: MakeInputs, make_target: MakeTarget
) -> None:
    target = make_target(1)
    target.visibility[:] = 0
    target.visibility[0, 3] = 1
    logits = torch.zeros(1, K, *SHAPE, requires_grad=True)
    HeatmapLoss(1)(make_inputs([target], heatmaps=prediction(logits))).backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum((0, 2, 3)).nonzero().flatten().tolist() == [3]


def test_nobody_is_no_danger(make_inputs: MakeInputs, make_target: MakeTarget) -> None:
    logits = torch.zeros(1, K, *SHAPE, requires_grad=True)
    loss = HeatmapLoss(1)(make_inputs([make_target(0)], heatmaps=prediction(logits)))
    loss.backward()
    assert loss == 0
