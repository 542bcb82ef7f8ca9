"""Which optimizer steps may be taken; several processes: test_processes.py."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

from uniphd.errors import ConfigError, TrainingError
from uniphd.training.fault_tolerance.finite import MAX_SKIPPED, FiniteSteps

FINE = {"final/dice": torch.tensor(1.0), "loss": torch.tensor(2.0)}
BROKEN = {"final/dice": torch.tensor(torch.inf), "loss": torch.tensor(torch.nan)}


def parameter(gradient: float) -> nn.Parameter:
    value = nn.Parameter(torch.zeros(3))
    value.grad = torch.full((3,), gradient)
    return value


def allowed(steps: FiniteSteps, losses: dict[str, Tensor], gradient: float = 1.0) -> bool:
    steps.watch((3, 17), losses, losses["loss"])
    return steps.allow(5, [parameter(gradient), nn.Parameter(torch.zeros(2))])


def test_a_finite_step_is_taken() -> None:
    steps = FiniteSteps("stop")
    assert allowed(steps, FINE)
    assert steps.skipped == 0


def test_stopping_names_losses_and_image_ids() -> None:
    expected = r"Step 5 is not finite: final/dice, loss of image ids 3, 17 in process 0 of 1\. Look"
    with pytest.raises(TrainingError, match=expected):
        allowed(FiniteSteps("stop"), BROKEN)


def test_a_skipped_step_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    steps = FiniteSteps("skip")
    with caplog.at_level(logging.WARNING):
        assert not allowed(steps, BROKEN)
    assert "loss of image ids 3, 17" in caplog.text
    assert "left out, as 1 so far" in caplog.text
    assert allowed(steps, FINE)  # the broken batch is forgotten
    assert steps.skipped == 1


def test_one_of_several_accumulated_batches_is_enough() -> None:
    steps = FiniteSteps("stop")
    steps.watch((3, 17), BROKEN, BROKEN["loss"])
    with pytest.raises(TrainingError, match="of image ids 3, 17 in process 0"):
        allowed(steps, FINE)


def test_a_gradient_can_be_broken_alone() -> None:
    with pytest.raises(TrainingError, match="the gradient, though every loss is finite"):
        allowed(FiniteSteps("stop"), FINE, gradient=torch.nan)


def test_a_scalers_overflow_is_its_own_business() -> None:
    steps = FiniteSteps("stop")
    steps.watch((3, 17), FINE, FINE["loss"])
    assert steps.allow(5, [parameter(torch.inf)], scaled=True)


def test_a_broken_network_is_not_skipped_for_ever() -> None:
    steps = FiniteSteps("skip")
    for _ in range(2):
        assert not any(allowed(steps, BROKEN) for _ in range(MAX_SKIPPED))
        assert allowed(steps, FINE)
    assert not any(allowed(steps, BROKEN) for _ in range(MAX_SKIPPED))
    with pytest.raises(TrainingError, match="10 steps before it were left out already"):
        allowed(steps, BROKEN)


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"module\.non_finite is 'ignore'; choose stop or skip"):
        FiniteSteps("ignore")  # type: ignore[arg-type]
