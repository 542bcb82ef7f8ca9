"""The grounding loss against loops over tokens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.losses.auxiliary.conftest import CANVAS, MakeInputs
from uniphd.errors import ConfigError
from uniphd.losses.auxiliary.grounding import GroundingLoss, contrastive_loss, occupancy
from uniphd.models.outputs import GroundingPrediction
from uniphd.structures import Target

SIZES = ((32, 48), (24, 40))  # of the images inside the canvas
SHAPES = ((4, 6), (2, 3), (1, 2))
STRIDES = (8, 16)
APART = (0, 1)  # two prompts, each with an image of its own


def masks() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.random(size) < 0.3 for size in SIZES]


def target(*people: np.ndarray) -> Target:
    count = len(people)
    return Target(
        labels=torch.ones(count, dtype=torch.int64),
        boxes=torch.rand(count, 4),
        keypoints=torch.rand(count, 17, 2),
        visibility=torch.ones(count, 17),
        area=torch.rand(count),
        masks=torch.from_numpy(np.stack(people)),
    )


def prediction(dtype: torch.dtype = torch.float32) -> GroundingPrediction:
    torch.manual_seed(0)
    logits = 2 * torch.randn(2, sum(h * w for h, w in SHAPES))
    padding = []
    for index, (h, w) in enumerate(SHAPES):
        stride = 8 * 2**index
        level = torch.ones(2, h, w, dtype=torch.bool)
        for row, (height, width) in enumerate(SIZES):
            level[row, : math.ceil(height / stride), : math.ceil(width / stride)] = False
        padding.append(level.flatten(1))
    rows = torch.arange(2)
    return GroundingPrediction(logits.to(dtype), torch.cat(padding, 1), rows, SHAPES)


def by_loops(answer: GroundingPrediction, levels: list[int], dice_weight: float) -> float:
    """Mean over levels and images of the valid tokens' mean cross-entropy, and dice."""
    terms = []
    for level in levels:
        height, width = SHAPES[level]
        start, stride = sum(h * w for h, w in SHAPES[:level]), STRIDES[level]
        for row, mask in enumerate(masks()):
            canvas = np.zeros(CANVAS)
            canvas[: mask.shape[0], : mask.shape[1]] = mask
            entropies, overlap, total = [], 0.0, 0.0
            for y in range(height):
                for x in range(width):
                    token = start + y * width + x
                    if answer.padding[row, token]:
                        continue
                    cell = canvas[y * stride : (y + 1) * stride, x * stride : (x + 1) * stride]
                    share = cell.sum() / stride**2
                    p = 1 / (1 + math.exp(-float(answer.logits[row, token])))
                    entropies.append(-share * math.log(p) - (1 - share) * math.log(1 - p))
                    overlap += p * share
                    total += p + share
            dice = 1 - (2 * overlap + 1) / (total + 1)
            terms.append(np.mean(entropies) + dice_weight * dice)
    return float(np.mean(terms))


@pytest.mark.parametrize("levels", [[0], [1], [0, 1]])
@pytest.mark.parametrize("dice_weight", [0.0, 0.7])
def test_equals_loops_over_tokens(
    make_inputs: MakeInputs, levels: list[int], dice_weight: float
) -> None:
    loss = GroundingLoss(weight=1, dice_weight=dice_weight, levels=levels)
    answer = prediction()
    value = loss(
        make_inputs([target(mask) for mask in masks()], image_index=APART, grounding=answer)
    )
    assert float(value) == pytest.approx(by_loops(answer, levels, dice_weight), rel=1e-5)


def test_padding_and_other_levels_get_no_gradient(make_inputs: MakeInputs) -> None:
    answer = prediction()
    logits = answer.logits.requires_grad_()
    GroundingLoss(weight=1, dice_weight=1.0)(
        make_inputs([target(mask) for mask in masks()], image_index=APART, grounding=answer)
    ).backward()
    assert logits.grad is not None
    supervised = ~answer.padding
    supervised[:, -2:] = False  # the third level
    assert ((logits.grad != 0) == supervised).all()


def test_the_contrastive_loss_equals_loops_over_the_people_of_an_image() -> None:
    """Five prompts and two captions, of two people of image 0, one twice, and of two others."""
    random = np.random.default_rng(1)
    people = random.random((4, 6)) * (random.random((4, 6)) < 0.6)
    logits, of_whom, images = random.normal(size=(7, 6)), [0, 1, 0, 2, 3], [0, 0, 0, 1, 1]
    rows = [0, 1, 2, 3, 4, 1, 3]
    others = {0: [0, 1], 1: [0, 1], 2: [2, 3], 3: [2, 3]}
    expected = []
    for row, person in zip(logits, (of_whom[row] for row in rows), strict=True):
        scores = {
            one: math.log(
                sum(math.exp(row[cell]) * people[one][cell] for cell in range(6))
                / people[one].sum()
            )
            for one in others[person]
        }
        # Person 0 has two prompts: for person 1, both are candidates.
        copies = {one: 2 if person == 1 and one == 0 else 1 for one in scores}
        total = sum(copies[one] * math.exp(score) for one, score in scores.items())
        expected.append(-math.log(math.exp(scores[person]) / total))
    shared = np.equal.outer(images, images)
    other = ~np.equal.outer(of_whom, of_whom) | np.eye(5, dtype=bool)
    occupied = torch.from_numpy(people[of_whom])
    candidates = torch.from_numpy(shared & other)
    value = contrastive_loss(torch.from_numpy(logits), torch.tensor(rows), occupied, candidates)
    assert float(value) == pytest.approx(np.mean(expected))


def test_a_person_with_two_prompts_is_no_candidate_beside_herself(make_inputs: MakeInputs) -> None:
    """Whatever the notation of the masks: these two differ."""
    targets, together = [target(mask) for mask in masks()], (0, 0)
    plain, contrastive = (GroundingLoss(weight=1, contrastive_weight=w) for w in (0.0, 3.0))
    given = {"image_index": together, "grounding": prediction()}
    one, two = (make_inputs(targets, person_ids=ids, **given) for ids in ((7, 7), (7, 8)))
    torch.testing.assert_close(contrastive(one), plain(one))
    assert contrastive(two) > plain(two) + 0.1


def test_the_contrastive_loss_is_among_the_people_of_one_image_only(
    make_inputs: MakeInputs,
) -> None:
    answer, targets = prediction(), [target(mask) for mask in masks()]
    contrastive = GroundingLoss(weight=1, contrastive_weight=3.0)
    torch.testing.assert_close(
        contrastive(make_inputs(targets, image_index=APART, grounding=answer)),
        GroundingLoss(weight=1)(make_inputs(targets, image_index=APART, grounding=answer)),
    )
    assert (
        contrastive(make_inputs(targets, image_index=(0, 0), grounding=answer))
        > GroundingLoss(weight=1)(make_inputs(targets, image_index=(0, 0), grounding=answer)) + 0.1
    )


def test_somebody_who_covers_no_cell_is_no_danger() -> None:
    logits = torch.randn(2, 6, requires_grad=True)
    occupied = torch.stack([torch.zeros(6), torch.rand(6)])
    contrastive_loss(
        logits, torch.arange(2), occupied, torch.ones(2, 2, dtype=torch.bool)
    ).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_several_people_of_an_image_are_taken_together(make_inputs: MakeInputs) -> None:
    first, second = masks()
    parts = [first & (np.arange(48) < 20), first & (np.arange(48) >= 20)]
    loss, answer = GroundingLoss(weight=1), prediction()
    together = loss(
        make_inputs([target(first), target(second)], image_index=APART, grounding=answer)
    )
    torch.testing.assert_close(
        loss(make_inputs([target(*parts), target(second)], image_index=APART, grounding=answer)),
        together,
    )


def test_half_precision_logits_are_taken_in_single_precision(make_inputs: MakeInputs) -> None:
    answer = prediction(torch.bfloat16)
    value = GroundingLoss(weight=1)(
        make_inputs([target(mask) for mask in masks()], image_index=APART, grounding=answer)
    )
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(by_loops(answer, [0, 1], 0), rel=1e-5)


def test_odd_levels_cover_the_whole_canvas() -> None:
    """A canvas of 48 has two rows at stride 32."""
    mask = torch.zeros(1, 48, 32, dtype=torch.bool)
    mask[:, :24] = True
    torch.testing.assert_close(occupancy(mask, (2, 1)), torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -0.5}, "negative"),
        ({"contrastive_weight": -1.0}, "negative"),
        ({"levels": [0, -1]}, "negative"),
        ({"levels": []}, "at least one level"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GroundingLoss(**{"weight": 1.0, **arguments})
