"""Image backbone: four feature maps at strides 4, 8, 16 and 32 from any timm model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from uniphd.errors import CheckpointError, ConfigError
from uniphd.models.swin import use_official_window_order

_STRIDES = (4, 8, 16, 32)
_LAST_FOUR = (-4, -3, -2, -1)


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

    Raises:
        ConfigError: the model is unknown, has other strides, or other channels.
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
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.body = _create(name, pretrained, dict(options or {}))
        _check_feature_info(name, self.body, self.channels)
        if weights is not None:
            _load_weights(self.body, weights)
        use_official_window_order(self.body)
        self.channels_last = "swin" in name
        self.norms = nn.ModuleList(
            nn.LayerNorm(width) if normalize else nn.Identity() for width in self.channels
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to maps (B, channels[i], H / stride, W / stride)."""
        maps = []
        for norm, features in zip(self.norms, self.body(images), strict=True):
            if self.channels_last:
                maps.append(norm(features).permute(0, 3, 1, 2))
            elif isinstance(norm, nn.LayerNorm):
                maps.append(norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
            else:
                maps.append(features)
        return maps


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    """Build the timm model; Swin gets any input size and its official window partition."""
    if name.startswith("swin_"):
        options = {"strict_img_size": False, "always_partition": True, **options}
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=pretrained, features_only=True, out_indices=_LAST_FOUR, **options
        )
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"timm cannot build the backbone '{name}' as a feature extractor: {error}. "
            "timm.list_models() lists the names; the model must give four feature maps."
        ) from error
    return model


def _load_weights(body: nn.Module, path: str) -> None:
    """Fill the timm model from a safetensors file."""
    try:
        body.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"backbone.weights={path} cannot be used: {error}") from error


def _check_feature_info(name: str, body: nn.Module, channels: tuple[int, ...]) -> None:
    """Compare what timm says about its maps with what the configuration expects."""
    info = body.feature_info
    strides, widths = tuple(info.reduction()), tuple(info.channels())  # type: ignore[operator,union-attr]
    if strides != _STRIDES:
        raise ConfigError(
            f"The backbone '{name}' has feature maps at strides {strides}, but {_STRIDES} are "
            "needed; pass out_indices in backbone.options or choose another model."
        )
    if widths != channels:
        raise ConfigError(
            f"The backbone '{name}' has {widths} channels, but the configuration says {channels}; "
            f"set backbone.channels to {list(widths)}."
        )
