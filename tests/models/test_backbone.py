"""Backbones of timm and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from uniphd.errors import CheckpointError, ConfigError
from uniphd.models.backbone import Backbone


@pytest.mark.parametrize("normalize", [False, True])
def test_four_maps_of_the_stated_channels(normalize: bool) -> None:
    backbone = Backbone("resnet10t", [64, 128, 256, 512], normalize=normalize).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 16, 24),
        (128, 8, 12),
        (256, 4, 6),
        (512, 2, 3),
    ]
    if normalize:
        mean = torch.stack([m.mean(1).abs().max() for m in maps])
        assert mean.max() < 1e-5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet10t", r"set backbone.channels to \[64, 128, 256, 512\]"),
        ("no_such_model", "timm cannot build the backbone 'no_such_model'"),
        ("vit_tiny_patch16_224", "strides"),
    ],
)
def test_unusable_models_are_explained(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backbone(name, [1, 2, 3, 4])


def test_weights_of_another_model(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="cannot be used"):
        Backbone("resnet10t", [64, 128, 256, 512], weights=str(tmp_path / "other.safetensors"))
