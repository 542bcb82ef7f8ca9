"""Backbones of timm and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
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


@pytest.fixture(scope="module", params=["swin", "convnext", "resnet"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    """A small one of each way to make maps smaller: patches, strides that round down and up."""
    torch.manual_seed(0)
    widths = (24, 48, 96, 192)
    name, options = {
        "swin": (
            "swin_tiny_patch4_window7_224",
            {"embed_dim": 24, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)},
        ),
        "convnext": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": widths}),
        "resnet": ("resnet18", {"layers": (1, 1, 1, 1), "channels": widths}),
    }[request.param]
    return Backbone(name, widths, normalize=True, options=options).eval()


@pytest.mark.parametrize("size", [(32, 32), (91, 66), (33, 47), (64, 98)])
def test_an_image_of_any_size_is_one_on_a_larger_canvas(
    backbone: Backbone, size: tuple[int, int]
) -> None:
    """Swin pads to whole patches of 4, and no more; others are given multiples of 16."""
    multiple = 4 if backbone.multiple == 1 else 16
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    padding = torch.zeros(1, *size, dtype=torch.bool)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    height, width = (-(-side // multiple) * multiple for side in size)
    canvas = torch.zeros(1, 3, height, width)
    canvas[:, :, : size[0], : size[1]] = (image / 255 - mean) / deviation
    with torch.inference_mode():
        pixels, mask = backbone.prepare(image, padding)
        for ours, expected in zip(backbone(pixels), backbone(canvas), strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    if multiple == 4:
        assert torch.equal(mask, padding)
    else:
        assert mask.shape[1:] == (height, width)
        assert mask.sum() == height * width - size[0] * size[1]


def test_pixels_are_normalised_as_the_model_was_pretrained() -> None:
    """Bytes and fractions alike; padding stays zero, whatever it held."""
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    backbone = Backbone("resnet10t", [64, 128, 256, 512])
    image = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    padding = torch.zeros(2, 32, 48, dtype=torch.bool)
    padding[1, 20:] = padding[1, :, 40:] = True
    expected = ((image / 255 - mean) / deviation) * ~padding.unsqueeze(1)
    for pixels in (image, image / 255):
        before = pixels.clone()
        actual, mask = backbone.prepare(pixels, padding)
        torch.testing.assert_close(actual, expected)
        assert torch.equal(pixels, before)
        assert torch.equal(mask, padding)
    assert backbone.prepare(image, padding)[0].is_contiguous()


def test_models_that_were_pretrained_with_another_mean_get_it() -> None:
    name = "mobilenetv4_conv_small_035"  # 0.5 for all channels, timm says
    widths = timm.create_model(name, features_only=True).feature_info.channels()[1:]
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(-1, -1, 32, 32)
    pixels, _ = Backbone(name, widths).prepare(image, torch.zeros(1, 32, 32, dtype=torch.bool))
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
