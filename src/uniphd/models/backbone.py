"""Image backbone: four feature maps at strides 4, 8, 16 and 32 from any timm model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.errors import CheckpointError, ConfigError
from uniphd.models.swin import pad_as_official
from uniphd.models.timm_features import (
    STRIDES,
    channels_of,
    create,
    find_multiple,
    is_channels_last,
)

if TYPE_CHECKING:
    from typing_extensions import Self


class Backbone(nn.Module):
    """A timm model with `features_only=True`.

    Args:
        name: timm model name.
        channels: channels of the four maps; checked against timm's, since other parts of the
            network are sized by them.
        normalize: give every map its own LayerNorm (eps 1e-5), as transformers need.
        pretrained: load timm's ImageNet weights (needs the network or timm's cache).
        weights: instead, a safetensors file with the timm model's weights, as `uniphd-convert`
            writes it for Microsoft's checkpoints.
        options: further arguments of `timm.create_model`, for example `drop_path_rate`.
        frozen_stages: the stem and this many stages get no gradient and stay in evaluation mode.
        checkpointing: while training, keep only what enters a block (a stage, for models without
            blocks) and compute the rest again in the backward pass: less memory, more time. (Batch
            norms see every batch twice then: their statistics follow faster.)

    Attributes:
        mean: per channel of RGB in [0, 1], as the model was pretrained with; timm knows it.
        deviation: likewise.

    Raises:
        ConfigError: the model is unknown, has other strides or other channels, or cannot be frozen
            or checkpointed.
    """

    def __init__(
        self,
        name: str,
        channels: Sequence[int],
        *,
        normalize: bool = False,
        pretrained: bool = False,
        weights: str | None = None,
        options: Mapping[str, Any] | None = None,
        frozen_stages: int = 0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.body = create(name, options or {}, pretrained=pretrained and weights is None)
        _check_channels(name, self.body, self.channels)
        if weights is not None:
            _load_weights(self.body, weights)
        official = pad_as_official(self.body)
        self.channels_last = is_channels_last(self.body)
        self.multiple = 1 if official else find_multiple(name, self.body)
        pixels: Mapping[str, Any] = self.body.pretrained_cfg  # type: ignore[assignment]
        self.mean: Sequence[float] = pixels.get("mean", IMAGENET_DEFAULT_MEAN)
        self.deviation: Sequence[float] = pixels.get("std", IMAGENET_DEFAULT_STD)
        self.norms = nn.ModuleList(
            nn.LayerNorm(width) if normalize else nn.Identity() for width in self.channels
        )
        self.checkpointing = checkpointing
        self.frozen = _stages(name, self.body, frozen_stages)
        for child in self.frozen:
            self.body.get_submodule(child).requires_grad_(False)
        if checkpointing and not _checkpoint_blocks(self.body, True):
            raise ConfigError(
                f"timm cannot checkpoint the backbone '{name}'; use backbone.checkpointing=false."
            )
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen stages stay in evaluation mode, and only training checkpoints."""
        super().train(mode)
        for child in self.frozen:
            self.body.get_submodule(child).eval()
        if self.checkpointing:
            _checkpoint_blocks(self.body, mode)
        return self

    def prepare(self, images: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Images as `forward` takes them, and their padding mask.

        Args:
            images: (P, 3, H, W) RGB, uint8 or float in [0, 1].
            padding_mask: (P, H, W) bool, True on padding.

        Returns:
            Normalised images, zero on padding, and the mask. Swin takes any canvas; for other
            models both are padded at the right and at the bottom to multiples of 16.
        """
        pixels = normalise(images, padding_mask, self.mean, self.deviation)
        height, width = padding_mask.shape[-2:]
        border = (0, -width % self.multiple, 0, -height % self.multiple)
        if any(border):
            pixels = F.pad(pixels, border)
            padding_mask = F.pad(padding_mask, border, value=True)
        return pixels, padding_mask

    def portable_arguments(self) -> dict[str, Any]:
        """Arguments with which the same backbone is built without files of weights."""
        return {"pretrained": False, "weights": None}

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map normalised images (B, 3, H, W) to maps (B, channels[i], H / stride, W / stride)."""
        maps = []
        for norm, features in zip(self.norms, self.body(images), strict=True):
            if self.channels_last:
                maps.append(norm(features).permute(0, 3, 1, 2))
            elif isinstance(norm, nn.LayerNorm):
                maps.append(norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
            else:
                maps.append(features)
        return maps


def normalise(
    images: Tensor, padding_mask: Tensor, mean: Sequence[float], deviation: Sequence[float]
) -> Tensor:
    """Images as normalised float, zero on padding; arguments as for `Backbone`."""
    channels = (images * (1 / 255 if images.dtype == torch.uint8 else 1)).unbind(1)
    moments = zip(channels, mean, deviation, strict=True)
    pixels = torch.stack([(channel - centre) / scale for channel, centre, scale in moments], dim=1)
    return pixels.masked_fill_(padding_mask.unsqueeze(1), 0)


def _load_weights(body: nn.Module, path: str) -> None:
    """Fill the timm model from a safetensors file."""
    try:
        body.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"backbone.weights={path} cannot be used: {error}") from error


def _check_channels(name: str, body: nn.Module, channels: tuple[int, ...]) -> None:
    """Compare what timm says about its maps with what the configuration expects."""
    if (widths := channels_of(body)) != channels:
        raise ConfigError(
            f"The backbone '{name}' has {widths} channels, but the configuration says {channels}; "
            f"set backbone.channels to {list(widths)}."
        )


def _stages(name: str, body: nn.Module, count: int) -> tuple[str, ...]:
    """Names of the children of a timm feature extractor up to the end of stage number `count`."""
    if not 0 <= count <= len(STRIDES):
        raise ConfigError(f"backbone.frozen_stages is {count}; give a number from 0 to 4.")
    if count == 0:
        return ()
    children = [child for child, _ in body.named_children()]
    # timm names the module that gives a map; its feature extractors write dots as underscores.
    end = body.feature_info.module_name()[count - 1].replace(".", "_")  # type: ignore[operator,union-attr]
    if end not in children:
        raise ConfigError(
            f"The stages of the backbone '{name}' cannot be told apart to freeze them; use "
            "backbone.frozen_stages=0."
        )
    return tuple(children[: children.index(end) + 1])


def _checkpoint_blocks(body: nn.Module, enable: bool) -> bool:
    """Switch timm's gradient checkpointing, which is non-reentrant; False where it has none.

    Stages that checkpoint their blocks are preferred to the feature extractor's own switch, which
    keeps what enters a stage: then a whole stage, with all its blocks, is computed again at once.
    """
    parts = [part for part in body.modules() if hasattr(part, "grad_checkpointing")]
    for part in [part for part in parts if part is not body] or parts:
        part.grad_checkpointing = enable  # type: ignore[assignment]
    return bool(parts)
