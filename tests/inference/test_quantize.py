"""8-bit linear layers."""

import pytest
import torch
from torch import nn

from tests.composition import TINY, compose_train
from uniphd.config.compose import build_network
from uniphd.inference.quantize import quantize_linear_layers
from uniphd.models.uniphd import UniPHD


def _linear_names(model: nn.Module, kind: type[nn.Module]) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, kind)}


def test_large_layers_are_quantized_and_heads_are_not(tiny_network: UniPHD) -> None:
    before = _linear_names(tiny_network, nn.Linear)
    quantized = quantize_linear_layers(tiny_network)
    kept = _linear_names(quantized, nn.Linear)
    changed = before - kept
    assert "encoder.layers.0.attention.value_proj" in changed
    assert any("text_encoder." in name for name in changed)
    assert "encoder.layers.0.feedforward.linear1" in changed
    assert "decoder.layers.0.cross_feedforward.linear2" in changed
    assert not any("sampling_offsets" in name or "heads" in name for name in changed)
    assert _linear_names(tiny_network, nn.Linear) == before  # the original is as it was


def test_layers_are_right_to_eight_bits(tiny_network: UniPHD) -> None:
    quantized = quantize_linear_layers(tiny_network)
    layer = tiny_network.encoder.layers[0].feedforward
    rounded = quantized.encoder.layers[0].feedforward
    x = torch.randn(1, 50, layer.linear1.in_features)
    with torch.inference_mode():
        exact = layer.linear1(x)
        error = (rounded.linear1(x) - exact).abs().max() / exact.abs().max()
        assert 0 < error < 0.02
        whole = (rounded(x) - layer(x)).abs().max()
    assert 0 < whole < 0.1  # of values with unit variance, after the layer norm


@pytest.mark.slow
def test_layers_whose_weights_are_used_directly_stay(tiny_network: UniPHD) -> None:
    """Swin v2 of timm does not call its layer of queries, keys and values."""
    model, _ = build_network(
        compose_train(
            None,
            *TINY,
            "data.root=unused",
            "backbone=timm",
            "backbone.pretrained=false",
            "backbone.name=swinv2_tiny_window8_256",
            "backbone.channels=[24,48,96,192]",
            "+backbone.options.embed_dim=24",
            "+backbone.options.depths=[1,1,1,1]",
            "+backbone.options.num_heads=[1,1,1,1]",
        )
    )
    quantized = quantize_linear_layers(model.eval())
    names = _linear_names(quantized, nn.Linear)
    assert any(name.endswith("qkv") for name in names)
    assert not any(".mlp." in name for name in names if name.startswith("backbone"))
    image, mask = torch.zeros(1, 3, 256, 256, dtype=torch.uint8), torch.zeros(1, 256, 256).bool()
    with torch.inference_mode():
        quantized.encode(image, mask)
