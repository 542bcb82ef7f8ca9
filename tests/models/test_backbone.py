"""Backbones of timm and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from uniphd.errors import CheckpointError, ConfigError
from uniphd.models.backbone import Backbone
from uniphd.models.timm_features import map_channels


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
        ("resnet18_", "timm has no backbone 'resnet18_'; similar names: resnet18"),
        ("hf-hub:timm/resnet10t.c3_in1k", "timm has no backbone"),
        ("vit_tiny_patch16_224", "strides"),
        ("levit_128s", "cannot build the backbone 'levit_128s' with four feature maps"),
    ],
)
def test_unusable_models_are_explained(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backbone(name, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("name", "options", "multiple"),
    [
        ("mambaout_femto", {"depths": (1, 1, 1, 1), "dims": (24, 48, 96, 192)}, 16),
        (
            "swinv2_tiny_window8_256",
            {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
            16,
        ),
        ("lcnet_035", {}, 16),
        ("dla46x_c", {}, 32),  # joins maps of two strides
        ("maxvit_rmlp_pico_rw_256", {"depths": (1, 1, 1, 1)}, 256),  # windows of a grid
    ],
)
def test_families_of_timm_take_images_of_any_size(
    name: str, options: dict[str, Any], multiple: int
) -> None:
    """Channels first or last, and whatever multiples a model needs."""
    torch.manual_seed(0)
    widths = timm.create_model(
        name, features_only=True, out_indices=(-4, -3, -2, -1), **options
    ).feature_info.channels()
    backbone = Backbone(name, widths, normalize=True, options=options).eval()
    assert backbone.multiple == multiple
    image = torch.randint(0, 256, (1, 3, 91, 66), dtype=torch.uint8)
    with torch.no_grad():
        pixels, mask = backbone.prepare(image, torch.zeros(1, 91, 66, dtype=torch.bool))
        maps, raw = backbone(pixels), backbone.body(pixels)
    height, width = (-(-side // multiple) * multiple for side in (91, 66))
    assert mask.shape == (1, height, width)
    for features, theirs, norm, stride, channels in zip(
        maps, raw, backbone.norms, (4, 8, 16, 32), widths, strict=True
    ):
        assert features.shape[1] == channels
        assert features.shape[2] in (height // stride, -(-height // stride))
        assert features.shape[3] in (width // stride, -(-width // stride))
        last = theirs if theirs.shape[-1] == channels else theirs.permute(0, 2, 3, 1)
        torch.testing.assert_close(features, norm(last).permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", ["coatnet_pico_rw_224", "hiera_tiny_224", "mvitv2_tiny"])
def test_models_for_one_size_are_refused_before_a_training(name: str) -> None:
    """Also those that take smaller images and have no positions for larger ones."""
    with pytest.raises(ConfigError, match="takes images of 224 x 224 pixels alone; choose"):
        Backbone(name, map_channels(name))


def test_weights_that_a_checkpoint_could_not_name() -> None:
    options = {"pretrained_cfg_overlay": {"file": "weights.safetensors"}}
    with pytest.raises(ConfigError, match=r"pretrained_cfg_overlay.*backbone.weights=FILE"):
        Backbone("resnet10t", [64, 128, 256, 512], options=options)


def test_weights_of_a_file_are_not_fetched_first(tmp_path: Path) -> None:
    body = Backbone("resnet10t", [64, 128, 256, 512]).body
    save_file(body.state_dict(), tmp_path / "body.safetensors")
    path = str(tmp_path / "body.safetensors")
    backbone = Backbone("resnet10t", [64, 128, 256, 512], pretrained=True, weights=path)
    torch.testing.assert_close(backbone.body.state_dict(), body.state_dict())


@pytest.mark.parametrize(
    ("name", "missing"),
    [("resnet10t", "models--timm--resnet10t.c3_in1k"), ("legacy_seresnet18", "https://github.com")],
)
def test_timms_weights_without_network(
    name: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the hub, and from elsewhere."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    said = (
        rf"'{name}' with timm's weights is not in {tmp_path}.* Copy .*{missing}.*pretrained=false"
    )
    with pytest.raises(ConfigError, match=said):
        Backbone(name, map_channels(name), pretrained=True)


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
