"""Image backbone: four feature maps at strides 4, 8, 16 and 32 from any timm model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.format import Format
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.errors import CheckpointError, ConfigError
from uniphd.models.hub import fetching
from uniphd.models.swin import pad_as_official
from uniphd.refusals import reason, refusal

if TYPE_CHECKING:
    from typing_extensions import Self

_logger = logging.getLogger(__name__)
_STRIDES = (4, 8, 16, 32)
_LAST_FOUR = (-4, -3, -2, -1)
# What the sides of images have to be multiples of: most models round maps up or down, some cannot.
_MULTIPLES = (16, 32)
_LONG_SIDE = 1_344  # pixels: more than positions that a model may have learned
_NOT_PORTABLE = frozenset(("pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"))


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
        self.channels_last = _is_channels_last(self.body)
        self.multiple = 1 if official else _find_multiple(name, self.body)
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
    pixels = images * (1 / 255 if images.dtype == torch.uint8 else 1)
    for channel, (centre, scale) in enumerate(zip(mean, deviation, strict=True)):
        pixels[:, channel].sub_(centre).div_(scale)
    return pixels.masked_fill_(padding_mask.unsqueeze(1), 0)


def create(name: str, options: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    """Build a timm model as an extractor of the maps at strides 4, 8, 16 and 32.

    Args:
        name: of the model.
        options: of `timm.create_model`.
        pretrained: load timm's weights.

    Raises:
        ConfigError: the model is unknown or lacks one of the maps; weights cannot be had.
    """
    if not timm.is_model(name):
        near = ", ".join(get_close_matches(name, timm.list_models(), 3)) or "none"
        raise ConfigError(
            f"timm has no backbone '{name}'; similar names: {near}. timm.list_models() lists all."
        )
    for key in _NOT_PORTABLE.intersection(options):
        raise ConfigError(
            f"backbone.options.{key} loads what a checkpoint cannot; give weights as "
            "backbone.weights=FILE."
        )
    with _fetching(name) if pretrained else nullcontext():
        body = _build(name, {"pretrained": pretrained, "out_indices": _LAST_FOUR, **options})
        strides = [level["reduction"] for level in body.feature_info.info]  # type: ignore[union-attr]
        if _strides(body) != _STRIDES and set(_STRIDES) <= set(strides):
            deepest = [len(strides) - 1 - strides[::-1].index(stride) for stride in _STRIDES]
            body = _build(name, {"pretrained": pretrained, **options, "out_indices": deepest})
    if _strides(body) != _STRIDES:
        raise ConfigError(
            f"The backbone '{name}' has feature maps at strides {_strides(body)}, but {_STRIDES} "
            "are needed; choose another model, such as a convnext, resnet or swin."
        )
    return body


def map_channels(name: str) -> tuple[int, ...]:
    """Channels of the four maps of a timm model.

    Raises:
        ConfigError: there is no such model, or it lacks one of the maps.
    """
    with torch.device("meta"):
        return _channels(create(name, {}))


def _fetching(name: str) -> AbstractContextManager[None]:
    """Around loading timm's weights, which it has from the hub or from elsewhere."""
    source = timm.get_pretrained_cfg(name)
    what = f"The backbone '{name}' with timm's weights"
    remedy = (
        "Copy {} there from where there is a network, or give backbone.pretrained=false for random "
        "weights, or backbone.weights=FILE of uniphd-convert."
    )
    if source is not None and source.hf_hub_id:
        folder = "models--" + source.hf_hub_id.replace("/", "--")
        return fetching(what, remedy.format(f"the folder {folder}"), constants.ENDPOINT)
    if source is not None and source.url:
        url = str(source.url)
        file = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
        return fetching(what, remedy.format(url), url, file)
    raise ConfigError(f"timm has no weights of '{name}'; give backbone.pretrained=false.")


def _build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build a feature extractor, if possible one for images of any size."""
    flexible: dict[str, Any] = {"strict_img_size": False}
    if name.startswith("swin_"):
        flexible["always_partition"] = True  # in windows, as in the official Swin
    try:
        try:
            body: nn.Module = timm.create_model(name, features_only=True, **{**flexible, **options})
        except TypeError:  # there is no such option
            body = timm.create_model(name, features_only=True, **options)
    except OSError:  # of files of weights
        raise
    except Exception as error:  # timm's models refuse in many ways
        what = f"timm cannot build the backbone '{name}' with four feature maps"
        raise refusal(what, error) from error
    return body


def _strides(body: nn.Module) -> tuple[int, ...]:
    return tuple(body.feature_info.reduction())  # type: ignore[operator,union-attr]


def _channels(body: nn.Module) -> tuple[int, ...]:
    return tuple(body.feature_info.channels())  # type: ignore[operator,union-attr]


def _is_channels_last(body: nn.Module) -> bool:
    """Whether maps are (B, h, w, C); timm's families with a class of their own do not say."""
    return bool(getattr(body, "output_fmt", Format.NCHW) == Format.NHWC)


def _load_weights(body: nn.Module, path: str) -> None:
    """Fill the timm model from a safetensors file."""
    try:
        body.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"backbone.weights={path} cannot be used: {error}") from error


def _check_channels(name: str, body: nn.Module, channels: tuple[int, ...]) -> None:
    """Compare what timm says about its maps with what the configuration expects."""
    if (widths := _channels(body)) != channels:
        raise ConfigError(
            f"The backbone '{name}' has {widths} channels, but the configuration says {channels}; "
            f"set backbone.channels to {list(widths)}."
        )


def _find_multiple(name: str, body: nn.Module) -> int:
    """Of which number the sides of a canvas are to be multiples for a model to take it.

    Raises:
        ConfigError: it takes images of one size alone, or gives other maps than timm says.
    """
    size: int = max(body.pretrained_cfg["input_size"])  # type: ignore[index]
    for multiple in _MULTIPLES:
        if _problem(body, (5 * multiple, 2 * multiple), (3 * multiple, _LONG_SIDE)) is None:
            return multiple
    problem = _problem(body, (size, 2 * size))
    if problem is None:
        _logger.warning(
            "The backbone '%s' takes multiples of %d pixels alone; images are padded to them.",
            *(name, size),
        )
        return size
    if _problem(body, (size, size)) is None:
        problem = f"takes images of {size} x {size} pixels alone"
    else:
        problem = f"takes no images of any size: {problem}"
    raise ConfigError(
        f"The backbone '{name}' {problem}; choose another model, such as a convnext, resnet or "
        "swin."
    )


def _problem(body: nn.Module, *canvases: tuple[int, int]) -> str | None:
    """Why a model does not give the maps that timm promises, of images of some sizes."""
    try:
        for canvas in canvases:
            _check_maps(body, canvas)
    except Exception as error:  # timm's models refuse in many ways
        return reason(error)
    return None


@torch.no_grad()
def _check_maps(body: nn.Module, canvas: tuple[int, int]) -> None:
    """Compare a model's maps with what timm says of them."""
    weight = next(body.parameters())
    maps = body.eval()(torch.zeros(1, 3, *canvas, device=weight.device))
    for features, channels, stride in zip(maps, _channels(body), _STRIDES, strict=True):
        if _is_channels_last(body):
            features = features.movedim(-1, 1)
        shape = tuple(features.shape[1:])
        sides = zip(shape[1:], canvas, strict=True)
        fits = all(side // stride <= n <= -(-side // stride) for n, side in sides)
        if not fits or shape[0] != channels:
            raise ValueError(f"at {canvas} pixels its map of stride {stride} is {shape}")


def _stages(name: str, body: nn.Module, count: int) -> tuple[str, ...]:
    """Names of the children of a timm feature extractor up to the end of stage number `count`."""
    if not 0 <= count <= len(_STRIDES):
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
