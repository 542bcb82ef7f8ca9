"""Gradient checkpointing and frozen stages change memory and what is trained, nothing else."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor, nn

from tests.composition import compose_train
from uniphd.config.compose import build
from uniphd.errors import ConfigError
from uniphd.models.backbone import Backbone
from uniphd.models.encoder import DeformableEncoder

BACKBONES: dict[str, dict[str, Any]] = {
    "swin_tiny_patch4_window7_224": {
        "channels": [8, 16, 32, 64],
        "options": {"embed_dim": 8, "depths": (2, 1, 2, 1), "num_heads": (1, 1, 2, 2)},
    },
    "convnext_atto": {
        "channels": [8, 8, 16, 16],
        "options": {"dims": (8, 8, 16, 16), "depths": (1, 1, 2, 1), "ls_init_value": None},
    },
    "resnet10t": {"channels": [64, 128, 256, 512], "options": {}},
}


def backbone(name: str, **arguments: Any) -> Backbone:
    """A small one of the same weights each time, with stochastic depth."""
    torch.manual_seed(0)
    given = BACKBONES[name]
    options = {**given["options"], "drop_path_rate": 0.5}
    return Backbone(name, given["channels"], options=options, **arguments).double()


def run(module: nn.Module, *arguments: Any) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Outputs and gradients of a step, with the same random numbers each time."""
    torch.manual_seed(1)
    outputs = module(*arguments)
    outputs = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    named = module.named_parameters()
    gradients = {name: value.grad for name, value in named if value.requires_grad}
    assert all(gradient is not None for gradient in gradients.values())
    return outputs, gradients


def count_calls(module: nn.Module) -> MagicMock:
    """Counts the forward passes, of which a second one ends as soon as the gradient has enough."""
    calls = MagicMock(return_value=None)
    module.register_forward_pre_hook(calls)
    return calls


@pytest.mark.parametrize("name", BACKBONES)
def test_a_checkpointed_backbone_has_the_same_gradients(name: str) -> None:
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    plain, saving = backbone(name), backbone(name, checkpointing=True)
    part = [child for _, child in saving.body.named_children()][-2]
    calls = count_calls(part.blocks[0] if hasattr(part, "blocks") else part)
    expected_maps, expected = run(plain, images)
    maps, gradients = run(saving, images)
    assert calls.call_count == 2  # once more in the backward pass
    torch.testing.assert_close(maps, expected_maps, rtol=0, atol=0)
    torch.testing.assert_close(gradients, expected, rtol=1e-12, atol=1e-14)


def test_evaluation_computes_once() -> None:
    saving = backbone("convnext_atto", checkpointing=True).eval()
    stage = [child for _, child in saving.body.named_children()][-1]
    calls = count_calls(stage.blocks[0])
    run(saving, torch.randn(1, 3, 64, 64, dtype=torch.float64))
    assert calls.call_count == 1
    assert not any(getattr(part, "grad_checkpointing", False) for part in saving.modules())


def test_a_checkpointed_encoder_has_the_same_gradients() -> None:
    shapes = ((4, 6), (2, 3))
    sizes = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "num_levels": 2, "dropout": 0.3}
    tokens, positions = torch.randn(2, 2, 30, 16, dtype=torch.float64).unbind()
    padding = torch.zeros(2, 30, dtype=torch.bool)
    padding[0, 5::6] = True
    ratios = torch.rand(2, 2, 2, dtype=torch.float64) / 2 + 0.5
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = DeformableEncoder(**sizes, feedforward_dim=32, checkpointing=checkpointing)
        encoder = encoder.double()
        torch.manual_seed(2)
        nn.init.normal_(encoder.layers[0].attention.sampling_offsets.weight)
        calls = count_calls(encoder.layers[0])
        given = tokens.clone().requires_grad_()
        memory, gradients = run(encoder, given, positions, shapes, padding, ratios)
        results.append((memory, gradients, given.grad))
        assert calls.call_count == (2 if checkpointing else 1)
        calls.reset_mock()
        run(encoder.eval(), given, positions, shapes, padding, ratios)
        assert calls.call_count == 1
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", BACKBONES)
def test_frozen_stages_stay_as_they_are(name: str) -> None:
    """Trained are exactly the parameters that the first two maps do not depend on."""
    model = backbone(name, frozen_stages=2)
    assert model.training
    plain = backbone(name)
    maps = plain(torch.randn(1, 3, 64, 64, dtype=torch.float64))
    (maps[0].sum() + maps[1].sum()).backward()
    used = {name for name, value in plain.named_parameters() if value.grad is not None}
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == used
    torch.manual_seed(1)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    first, second = model(images), model(images)  # without stochastic depth and batch statistics
    torch.testing.assert_close(first[:2], second[:2], rtol=0, atol=0)
    torch.testing.assert_close(first[:2], model.eval()(images)[:2])
    run(model.train(), images)


@pytest.mark.parametrize("count", [-1, 5])
def test_there_are_four_stages(count: int) -> None:
    with pytest.raises(ConfigError, match=r"backbone\.frozen_stages is"):
        backbone("resnet10t", frozen_stages=count)


def test_both_are_config_keys() -> None:
    keys = ["backbone.checkpointing=true", "backbone.frozen_stages=1"]
    config = compose_train(None, "backbone=tiny", "data.root=unused", *keys)
    built = build(config.backbone)
    assert built.checkpointing
    assert len(built.frozen) == 3  # stem and first stage: convolution, norm, blocks
    overrides = ("model.encoder.checkpointing=true", "data.root=unused")
    assert build(compose_train(None, *overrides).model.encoder).checkpointing
