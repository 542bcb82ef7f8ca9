"""The training module's own steps, without a trainer."""

from __future__ import annotations

import copy
from unittest.mock import MagicMock, PropertyMock

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from uniphd.checkpoints.folder import ModelConfig
from uniphd.losses.criterion import SetCriterion
from uniphd.losses.matcher import HungarianMatcher
from uniphd.models.uniphd import UniPHD
from uniphd.training import processes
from uniphd.training.module import RefHumanModule
from uniphd.training.processes import share_losses


@pytest.mark.parametrize("loss", [float("nan"), 1.0])
def test_a_step_that_is_skipped_changes_no_weight(
    loss: float, tiny_network: UniPHD, monkeypatch: pytest.MonkeyPatch
) -> None:
    criterion = SetCriterion(HungarianMatcher(), {"class": 1.0})
    module = RefHumanModule(
        tiny_network, criterion, ModelConfig({}, {}), MagicMock(), non_finite="skip"
    )
    module.trainer = MagicMock()
    module.trainer.precision_plugin.scaler = None
    monkeypatch.setattr(type(module), "global_step", PropertyMock(return_value=0))
    monkeypatch.setattr(module, "log", MagicMock())
    weights = {name: value.detach().clone() for name, value in module.named_parameters()}
    for value in module.parameters():
        value.grad = torch.ones_like(value)  # what accumulated batches before may have left
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    module.finite.watch((1,), {"loss": torch.tensor(loss)}, torch.tensor(loss))
    module.on_before_optimizer_step(optimizer)
    optimizer.step()
    same = [torch.equal(value, weights[name]) for name, value in module.named_parameters()]
    assert all(same) if loss != loss else not any(same)


@pytest.mark.parametrize("clip", [0.1, 1e6])
def test_gradients_are_clipped_as_pytorch_does(clip: float, tiny_network: UniPHD) -> None:
    """With a fused optimizer in bfloat16, too, for which Lightning refuses to clip."""
    criterion = SetCriterion(HungarianMatcher(), {"class": 1.0})
    module = RefHumanModule(tiny_network, criterion, ModelConfig({}, {}), MagicMock())
    module.trainer = MagicMock(precision_plugin=MixedPrecision("bf16-mixed", "cpu"))
    generator = torch.Generator().manual_seed(0)
    for value in module.parameters():
        value.grad = torch.randn(value.shape, generator=generator)
    expected = copy.deepcopy(tiny_network)
    for value, copied in zip(tiny_network.parameters(), expected.parameters(), strict=True):
        assert value.grad is not None
        copied.grad = value.grad.clone()
    torch.nn.utils.clip_grad_norm_(expected.parameters(), clip)
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    assert module.finite.allow(0, module.parameters())
    module.configure_gradient_clipping(optimizer, clip, "norm")
    for value, clipped in zip(tiny_network.parameters(), expected.parameters(), strict=True):
        assert value.grad is not None
        assert clipped.grad is not None
        assert torch.equal(value.grad, clipped.grad)


def test_the_mean_over_processes_of_weighted_losses_is_the_mean_over_people(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three processes one after the other; the sums that they exchange are made by hand."""
    people, losses = (3, 1, 4), (2.0, 5.0, 0.5)
    total = sum(n * loss for n, loss in zip(people, losses, strict=True))

    def all_reduce(sums: torch.Tensor) -> None:
        sums.copy_(torch.tensor([8.0, total, 6.0]))

    monkeypatch.setattr(processes, "in_group", lambda: True)
    monkeypatch.setattr(processes.distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(processes.distributed, "all_reduce", all_reduce)
    trained = []
    for n, loss in zip(people, losses, strict=True):
        shared = share_losses({"loss": torch.tensor(loss)}, {"broken": torch.tensor(2)}, n)
        trained.append(loss * shared.weight.item())
        assert shared.losses["loss"].item() == pytest.approx(total / 8)
        assert (shared.people, shared.counts["broken"]) == (8, 6)
    assert sum(trained) / 3 == pytest.approx(total / 8)
