from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.losses.conftest import FakeMaskHead, MakePredictions, MakeTarget
from uniphd.errors import ConfigError
from uniphd.losses.criterion import (
    LOSS_NAMES,
    MASK_LOSSES,
    CriterionResult,
    SetCriterion,
)
from uniphd.losses.matcher import HungarianMatcher
from uniphd.models.outputs import LayerPrediction

WEIGHTS = {name: 1.0 + i / 4 for i, name in enumerate(LOSS_NAMES)}
NO_MASKS = {name: weight for name, weight in WEIGHTS.items() if name not in MASK_LOSSES}
COMMON = {"class", "keypoints", "oks"}


def _criterion(weights: dict[str, float] | None = None, aux_masks: bool = False) -> SetCriterion:
    return SetCriterion(HungarianMatcher(), weights or WEIGHTS, aux_masks)


def _names(result: CriterionResult, output: str) -> set[str]:
    return {n.partition("/")[2] for n in result.losses if n.startswith(f"{output}/")}


def test_every_output_has_its_losses(
    make_predictions: MakePredictions, make_target: MakeTarget, mask_head: FakeMaskHead
) -> None:
    targets = (make_target(1), make_target(1, (20, 41)))
    result = _criterion()(make_predictions(2), targets, mask_head, 2)
    assert _names(result, "final") == set(LOSS_NAMES)
    assert _names(result, "layer0") == _names(result, "layer1") == set(NO_MASKS)
    assert _names(result, "selection") == COMMON
    assert len(result.losses) == 10 + 2 * 6 + 3
    assert mask_head.asked == [6]
    assert mask_head.refined == [1]
    assert not any(value.requires_grad for value in result.losses.values())


def test_aux_masks_supervise_every_layer(
    make_predictions: MakePredictions, make_target: MakeTarget, mask_head: FakeMaskHead
) -> None:
    result = _criterion(aux_masks=True)(make_predictions(1), (make_target(2),), mask_head, 2)
    assert _names(result, "layer0") == _names(result, "layer1") == set(LOSS_NAMES)
    assert mask_head.asked == [3 * 6]
    assert mask_head.refined == [3 * 2]


def test_total_is_the_weighted_sum(
    make_predictions: MakePredictions, make_target: MakeTarget, mask_head: FakeMaskHead
) -> None:
    weights = {name: float(i + 1) for i, name in enumerate(LOSS_NAMES)}
    result = _criterion(weights)(make_predictions(1), (make_target(2),), mask_head, 2)
    expected = sum(weights[n.partition("/")[2]] * v.item() for n, v in result.losses.items())
    assert result.total.item() == pytest.approx(expected, rel=1e-5)


def test_sums_are_divided_by_the_instances_and_visibility_is_not(
    make_predictions: MakePredictions, make_target: MakeTarget, mask_head: FakeMaskHead
) -> None:
    predictions, targets = make_predictions(2), (make_target(1), make_target(2))
    once = _criterion()(predictions, targets, mask_head, 1.0).losses
    thrice = _criterion()(predictions, targets, mask_head, torch.tensor(3.0)).losses
    for name, value in once.items():
        factor = 1 if name.endswith("visibility") else 3
        assert value.item() == pytest.approx(factor * thrice[name].item(), rel=1e-5), name


def test_every_leaf_gets_a_gradient(
    make_predictions: MakePredictions, make_target: MakeTarget, mask_head: FakeMaskHead
) -> None:
    predictions = make_predictions(2)
    targets = (make_target(1), make_target(3))
    _criterion()(predictions, targets, mask_head, 4).total.backward()
    final, earlier = predictions.final, predictions.layers[0]
    heads = ("logits", "boxes", "keypoints", "visibility_logits")
    for name in heads:
        assert getattr(final, name).grad.abs().sum() > 0, name
        assert getattr(earlier, name).grad.abs().sum() > 0, name
    assert final.embedding.grad is not None
    assert final.embedding.grad.abs().sum() > 0
    assert earlier.embedding.grad is None
    assert predictions.selection.logits.grad is not None
    for parameter in mask_head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_only_matched_queries_are_pulled(
    make_predictions: MakePredictions, make_target: MakeTarget, mask_head: FakeMaskHead
) -> None:
    predictions = make_predictions(1, layers=1)
    _criterion()(predictions, (make_target(2),), mask_head, 2).total.backward()
    grad = predictions.final.boxes.grad
    assert grad is not None
    assert (grad[0].abs().sum(-1) > 0).sum() == 2


def test_nobody_in_the_batch_is_a_finite_loss_with_gradients_everywhere(
    make_predictions: MakePredictions, make_target: MakeTarget, mask_head: FakeMaskHead
) -> None:
    predictions = make_predictions(2)
    result = _criterion()(predictions, (make_target(0), make_target(0)), mask_head, 1.0)
    result.total.backward()
    assert result.total.isfinite()
    assert result.losses["final/class"] > 0
    assert result.losses["final/box"] == result.losses["final/dice"] == 0
    # DDP waits for every parameter: they need a gradient, if only zero.
    assert all(parameter.grad is not None for parameter in mask_head.parameters())
    assert predictions.final.boxes.grad is not None


def test_dropped_losses(make_predictions: MakePredictions, make_target: MakeTarget) -> None:
    weights = {"class": 1.0, "giou": 2.0, "mask": 0.0}
    result = _criterion(weights)(make_predictions(1), (make_target(1),), FakeMaskHead(8), 1)
    assert _names(result, "final") == {"class", "giou"}
    assert _names(result, "selection") == {"class"}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"boxes": 1.0}, "unknown"),
        ({"box": -1.0, "class": 1.0}, "negative"),
        ({"box": 0.0}, "every loss weight is 0"),
    ],
)
def test_senseless_weights(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _criterion(weights)


def test_autocast_changes_nothing(
    make_predictions: MakePredictions, make_target: MakeTarget
) -> None:
    predictions, targets = make_predictions(2), (make_target(2), make_target(1))
    plain = _criterion(NO_MASKS)(predictions, targets, FakeMaskHead(8), 3)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = _criterion(NO_MASKS)(predictions, targets, FakeMaskHead(8), 3)
    assert lowered.total.dtype == torch.float32
    assert torch.equal(plain.total, lowered.total)


def test_half_precision_predictions_give_float32_losses(
    make_predictions: MakePredictions, make_target: MakeTarget
) -> None:
    predictions, targets = make_predictions(1), (make_target(1),)
    lowered = replace(
        predictions,
        layers=tuple(
            LayerPrediction(**{n: v.bfloat16() for n, v in vars(layer).items() if v is not None})
            for layer in predictions.layers
        ),
    )
    result = _criterion(NO_MASKS)(lowered, targets, FakeMaskHead(8), 1)
    assert {value.dtype for value in result.losses.values()} == {torch.float32}
    assert result.total.isfinite()


def test_broken_predictions_are_counted_and_do_not_raise(
    make_predictions: MakePredictions, make_target: MakeTarget
) -> None:
    predictions = make_predictions(1, layers=1)
    with torch.no_grad():
        predictions.final.boxes[:] = float("nan")
    result = _criterion(NO_MASKS)(predictions, (make_target(2),), FakeMaskHead(8), 2)
    assert result.non_finite_costs == 6 * 2
    assert result.total.isnan()
    assert result.losses["selection/oks"].isfinite()


def test_no_host_copies_for_one_person_per_image(
    make_predictions: MakePredictions, make_target: MakeTarget
) -> None:
    """Data-dependent host reads fail on fake tensors, as they would stall a GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    predictions, targets = make_predictions(2), (make_target(1), make_target(1))
    with mode:
        result = _criterion(NO_MASKS)(predictions, targets, FakeMaskHead(8), 2)
    assert result.total.shape == ()
