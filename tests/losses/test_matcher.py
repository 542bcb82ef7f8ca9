from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from uniphd.keypoints import COCO17
from uniphd.losses.boxes import giou_loss
from uniphd.losses.keypoints import oks_loss
from uniphd.losses.matcher import HungarianMatcher, Match
from uniphd.losses.predictions import StackedPredictions
from uniphd.losses.targets import StackedTargets, stack_masks, stack_targets
from uniphd.metrics.oks import keypoint_variance
from uniphd.models.outputs import LayerPrediction, SelectionPrediction
from uniphd.structures import Target

MakeTarget = Callable[..., Target]
MakeLayer = Callable[..., LayerPrediction]


def stacked(targets: list[Target]) -> StackedTargets:
    return stack_targets(targets, torch.tensor(COCO17.sigmas))


def alone(output: LayerPrediction | SelectionPrediction) -> StackedPredictions:
    """One output as if it were all."""
    layer = output if isinstance(output, LayerPrediction) else None
    images, queries = output.logits.shape[:2]
    return StackedPredictions(
        names=("alone",),
        logits=output.logits.unsqueeze(0),
        keypoints=output.keypoints.unsqueeze(0),
        boxes=torch.zeros(0, images, queries, 4) if layer is None else layer.boxes.unsqueeze(0),
        visibility_logits=torch.zeros(0),
    )


def match_alone(
    matcher: HungarianMatcher,
    output: LayerPrediction | SelectionPrediction,
    targets: StackedTargets,
    *masks: Tensor,
) -> Match:
    """Pairs of one output, all indices (M,)."""
    match = matcher(alone(output), targets, *masks)
    return dataclasses.replace(match, query=match.query[0], person=match.person[0])


def cost_alone(
    matcher: HungarianMatcher,
    output: LayerPrediction | SelectionPrediction,
    targets: StackedTargets,
) -> Tensor:
    return matcher.cost(alone(output), targets)[0]


def _cheapest_total(cost: Tensor) -> float:
    """By trying every assignment of (Q, N) with N at most Q."""
    queries, people = cost.shape
    return min(
        sum(float(cost[q, n]) for n, q in enumerate(chosen))
        for chosen in itertools.permutations(range(queries), people)
    )


def test_several_people_get_the_cheapest_assignment(
    make_layer: MakeLayer, make_target: MakeTarget
) -> None:
    counts = (3, 0, 1, 2)
    targets = stacked([make_target(count) for count in counts])
    layer = make_layer(len(counts))
    matcher = HungarianMatcher()
    match = match_alone(matcher, layer, targets)
    cost = cost_alone(matcher, layer, targets).detach()
    for image, count in enumerate(counts):
        mine = match.image == image
        queries, people = match.query[mine], match.person[mine]
        assert sorted(people.tolist()) == list(range(count))
        assert len(set(queries.tolist())) == count
        total = cost[image, queries, people].sum().item()
        assert total == pytest.approx(_cheapest_total(cost[image, :, :count]), abs=1e-4)


def test_cost_adds_up_as_documented(make_layer: MakeLayer, make_target: MakeTarget) -> None:
    target, layer = make_target(1), make_layer(1)
    cost = cost_alone(HungarianMatcher(), layer, stacked([target]))[0, :, 0]
    p = layer.logits[0, :, 1].sigmoid()
    focal = 0.25 * (1 - p) ** 2 * -p.log() - 0.75 * p**2 * -(1 - p).log()
    box = (layer.boxes[0] - target.boxes).abs().sum(-1)
    keypoints = ((layer.keypoints[0] - target.keypoints).abs().sum(-1) * target.visibility).sum(-1)
    giou = giou_loss(layer.boxes[0], target.boxes)
    variance = keypoint_variance(target.area, torch.tensor(COCO17.sigmas))
    oks = oks_loss(layer.keypoints[0], target.keypoints, target.visibility, variance)
    torch.testing.assert_close(cost, 2 * focal + 5 * box + 2 * giou + 10 * keypoints + 4 * oks)


def test_one_person_per_image_takes_the_minimum_without_scipy(
    make_layer: MakeLayer, make_target: MakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = stacked([make_target(count) for count in (1, 0, 1)])
    layer = make_layer(3)
    matcher = HungarianMatcher()
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)  # importing it would now fail
    match = match_alone(matcher, layer, targets)
    expected = cost_alone(matcher, layer, targets)[:, :, 0].argmin(1)
    assert match.image.tolist() == [0, 2]
    assert match.query.tolist() == expected[[0, 2]].tolist()
    assert match.person.tolist() == [0, 0]


def test_no_people_at_all(make_layer: MakeLayer, make_target: MakeTarget) -> None:
    match = match_alone(
        HungarianMatcher(), make_layer(2), stacked([make_target(0), make_target(0)])
    )
    assert match.image.shape == match.query.shape == match.person.shape == (0,)
    assert match.image.dtype == match.query.dtype == torch.int64


def test_perfect_queries_are_found(make_layer: MakeLayer, make_target: MakeTarget) -> None:
    targets = stacked([make_target(2), make_target(1)])
    layer = make_layer(2)
    with torch.no_grad():
        for image, query, person in [(0, 4, 0), (0, 1, 1), (1, 5, 0)]:
            layer.boxes[image, query] = targets.boxes[image, person]
            layer.keypoints[image, query] = targets.keypoints[image, person]
    match = match_alone(HungarianMatcher(), layer, targets)
    pairs = zip(match.image.tolist(), match.query.tolist(), match.person.tolist(), strict=True)
    assert sorted(pairs) == [(0, 1, 1), (0, 4, 0), (1, 5, 0)]


@pytest.mark.parametrize("counts", [(1, 1), (2, 1)])
def test_non_finite_costs_are_avoided_and_counted(
    make_layer: MakeLayer, make_target: MakeTarget, counts: tuple[int, ...]
) -> None:
    targets = stacked([make_target(count) for count in counts])
    layer = make_layer(2)
    best = match_alone(HungarianMatcher(), layer, targets)
    assert best.non_finite == 0
    with torch.no_grad():
        layer.boxes[0, best.query[0]] = float("nan")
        layer.keypoints[1, best.query[-1]] = float("inf")
    match = match_alone(HungarianMatcher(), layer, targets)
    assert match.non_finite == 2 * max(counts)
    assert best.query[0] not in match.query[match.image == 0]
    assert best.query[-1] not in match.query[match.image == 1]


def test_everything_nan_still_gives_pairs(make_layer: MakeLayer, make_target: MakeTarget) -> None:
    layer = make_layer(1)
    broken = dataclasses.replace(layer, logits=torch.full_like(layer.logits, float("nan")))
    for people in (1, 3):
        match = match_alone(HungarianMatcher(), broken, stacked([make_target(people)]))
        assert len(set(match.query.tolist())) == people


def test_more_people_than_queries(make_layer: MakeLayer, make_target: MakeTarget) -> None:
    match = match_alone(HungarianMatcher(), make_layer(1, queries=2), stacked([make_target(5)]))
    assert sorted(match.query.tolist()) == [0, 1]
    assert len(set(match.person.tolist())) == 2


def test_selection_is_matched_without_boxes(make_layer: MakeLayer, make_target: MakeTarget) -> None:
    targets, layer = stacked([make_target(1)]), make_layer(1)
    selection = SelectionPrediction(layer.logits, layer.keypoints)
    boxless = HungarianMatcher(box_cost=0, giou_cost=0)
    cost = cost_alone(HungarianMatcher(), selection, targets)
    torch.testing.assert_close(cost, cost_alone(boxless, layer, targets))


def test_masks_take_part_where_they_are_given(
    make_layer: MakeLayer, make_target: MakeTarget
) -> None:
    target, layer = make_target(1, (4, 6)), make_layer(1)
    targets: StackedTargets = stacked([target])
    masks = stack_masks([target], (4, 6))
    matcher = HungarianMatcher(mask_cost=1e3, dice_cost=1e3)
    right = 20 * masks[:, 0].float() - 10
    for query in range(6):
        logits = -right[:, None].repeat(1, 6, 1, 1)
        logits[:, query] = right
        assert match_alone(matcher, layer, targets, logits, masks).query.tolist() == [query]


def test_autocast_does_not_blur_mask_costs(make_layer: MakeLayer, make_target: MakeTarget) -> None:
    target, layer = make_target(1, (16, 16)), make_layer(1)
    targets, masks = stacked([target]), stack_masks([target], (16, 16))
    # All queries draw the right mask, the later ones with a little more confidence. In bfloat16
    # their probabilities are the same.
    confidence = 8 + 0.01 * torch.arange(6)
    logits = confidence[None, :, None, None] * (2 * masks.float() - 1)
    matcher = HungarianMatcher(0, 0, 0, 0, 0, mask_cost=1, dice_cost=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert match_alone(matcher, layer, targets, logits, masks).query.tolist() == [5]


def test_the_centre_alone_can_match_a_selection(
    make_layer: MakeLayer, make_target: MakeTarget
) -> None:
    target, layer = make_target(1), make_layer(1)
    selection = SelectionPrediction(layer.logits, layer.keypoints)
    matcher = HungarianMatcher(0, 0, 0, 0, 0, 0, 0, centre_cost=2)
    distances = []
    for query in range(layer.logits.shape[1]):
        x, y = (layer.keypoints[0, query, :, axis].sum().item() / 17 for axis in (0, 1))
        distances.append(abs(x - target.boxes[0, 0].item()) + abs(y - target.boxes[0, 1].item()))
    cost = cost_alone(matcher, selection, stacked([target]))[0, :, 0]
    assert cost.tolist() == pytest.approx([2 * distance for distance in distances], abs=1e-5)
    match = match_alone(matcher, selection, stacked([target]))
    assert match.query.tolist() == [distances.index(min(distances))]
    # Where there are boxes, they say more.
    assert not cost_alone(matcher, layer, stacked([target])).any()
