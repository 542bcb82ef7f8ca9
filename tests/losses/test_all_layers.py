"""All layers at once: the values and gradients of loops over them, and few calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.losses import reference
from tests.losses.conftest import CANVAS, CHANNELS, FakeMaskHead, MakePredictions, MakeTarget
from uniphd.losses.criterion import LOSS_NAMES, MASK_LOSSES, SetCriterion
from uniphd.losses.matcher import HungarianMatcher
from uniphd.models.mask_head import MaskHead
from uniphd.models.outputs import Predictions

WEIGHTS = {name: 0.5 + 0.25 * i for i, name in enumerate(LOSS_NAMES)}
NO_MASKS = {name: weight for name, weight in WEIGHTS.items() if name not in MASK_LOSSES}
MATCHER = HungarianMatcher(centre_cost=1.5)


def leaves(predictions: Predictions) -> Iterator[Tensor]:
    for output in (*predictions.layers, predictions.selection):
        for field in fields(output):
            if isinstance(value := getattr(output, field.name), Tensor) and value.is_leaf:
                yield value


def gradients(total: Tensor, predictions: Predictions, head: FakeMaskHead) -> list[Tensor]:
    inputs = [*leaves(predictions), *head.parameters()]
    found = torch.autograd.grad(total, inputs, allow_unused=True, retain_graph=True)
    pairs = zip(found, inputs, strict=True)
    return [torch.zeros_like(x) if gradient is None else gradient for gradient, x in pairs]


def compare(
    predictions: Predictions,
    targets: Any,
    head: FakeMaskHead,
    masks: bool,
    aux_masks: bool,
    autocast: bool = False,
) -> None:
    weights = WEIGHTS if masks else NO_MASKS
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = SetCriterion(MATCHER, weights, aux_masks)(predictions, targets, head, 3)
    used = head if masks else None
    total, losses, broken = reference.criterion(
        MATCHER, weights, aux_masks, predictions, targets, used, 3
    )
    assert result.non_finite_costs == broken
    absent = {name: value for name, value in result.losses.items() if name not in losses}
    assert not any(absent.values())  # of nobody
    found = {name: result.losses[name] for name in losses}
    torch.testing.assert_close(found, losses, rtol=1e-6, atol=1e-6, equal_nan=True)
    torch.testing.assert_close(result.total, total, rtol=2e-6, atol=1e-6, equal_nan=True)
    torch.testing.assert_close(
        gradients(result.total, predictions, head),
        gradients(total, predictions, head),
        rtol=1e-5,
        atol=1e-6,
        equal_nan=True,
    )


@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 0, 3), (0, 0), (0, 1), (7, 1)])
@pytest.mark.parametrize("masks", ["none", "final", "all"])
def test_equal_loops_over_layers_images_and_people(
    counts: tuple[int, ...],
    masks: str,
    make_predictions: MakePredictions,
    make_target: MakeTarget,
    mask_head: FakeMaskHead,
) -> None:
    sizes = [CANVAS, (24, 40), (32, 41)]
    predictions = make_predictions(len(counts), queries=4)
    targets = [make_target(n, size) for n, size in zip(counts, sizes, strict=False)]
    compare(predictions, targets, mask_head, masks != "none", masks == "all")


@pytest.mark.parametrize("counts", [(1, 1), (2, 1)])
def test_equal_loops_with_costs_that_are_not_finite(
    counts: tuple[int, ...],
    make_predictions: MakePredictions,
    make_target: MakeTarget,
    mask_head: FakeMaskHead,
) -> None:
    predictions = make_predictions(2, queries=4)
    with torch.no_grad():
        predictions.layers[1].boxes[0, :2] = float("nan")
        predictions.selection.keypoints[1, 3] = float("inf")
    compare(predictions, [make_target(n) for n in counts], mask_head, masks=False, aux_masks=False)


@pytest.mark.parametrize("autocast", [False, True])
def test_equal_loops_with_coarse_masks_that_the_network_made(
    autocast: bool,
    make_predictions: MakePredictions,
    make_target: MakeTarget,
    mask_head: FakeMaskHead,
) -> None:
    predictions, features = make_predictions(2, queries=4), make_predictions(2).mask_features
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        layers = tuple(
            replace(layer, coarse_masks=mask_head.coarse(features, layer.embedding, layer.centre))
            for layer in predictions.layers
        )
    mask_head.asked.clear()
    carrying = replace(predictions, layers=layers)
    targets = [make_target(2), make_target(1)]
    for aux_masks in (False, True):
        compare(carrying, targets, mask_head, True, aux_masks, autocast)
    assert not mask_head.asked


class Kernels(TorchDispatchMode):
    """Counts calls that compute or copy something: views do not."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view and func.namespace == "aten"
        return func(*args, **kwargs or {})


def test_few_calls_for_the_papers_network(
    make_predictions: MakePredictions, make_target: MakeTarget
) -> None:
    """Batch of 4 and 6 layers, as experiment=swint_refhuman; seven times each loss was 1,761."""
    predictions = make_predictions(4, layers=6, queries=20)
    targets = [make_target(1, size) for size in (CANVAS, (24, 40), (32, 41), (30, 48))]
    model = SimpleNamespace(mask_head=MaskHead(CHANNELS, 1, 1))
    with Kernels() as kernels:
        SetCriterion(HungarianMatcher(), WEIGHTS)(predictions, targets, model, 4)
    assert kernels.count <= 450
