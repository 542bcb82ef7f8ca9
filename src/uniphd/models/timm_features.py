"""timm's models as extractors of feature maps: built, fetched, and tried."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants
from timm.layers.format import Format
from torch import nn

from uniphd.errors import ConfigError
from uniphd.models.hub import fetching
from uniphd.refusals import reason, refusal

_logger = logging.getLogger(__name__)
STRIDES = (4, 8, 16, 32)
_LAST_FOUR = (-4, -3, -2, -1)
# What the sides of images have to be multiples of: most models round maps up or down, some cannot.
_MULTIPLES = (16, 32)
_LONG_SIDE = 1_344  # pixels: more than positions that a model may have learned
_NOT_PORTABLE = frozenset(("pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"))


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
        if _strides(body) != STRIDES and set(STRIDES) <= set(strides):
            deepest = [len(strides) - 1 - strides[::-1].index(stride) for stride in STRIDES]
            body = _build(name, {"pretrained": pretrained, **options, "out_indices": deepest})
    if _strides(body) != STRIDES:
        raise ConfigError(
            f"The backbone '{name}' has feature maps at strides {_strides(body)}, but {STRIDES} "
            "are needed; choose another model, such as a convnext, resnet or swin."
        )
    return body


def map_channels(name: str) -> tuple[int, ...]:
    """Channels of the four maps of a timm model.

    Raises:
        ConfigError: there is no such model, or it lacks one of the maps.
    """
    with torch.device("meta"):
        return channels_of(create(name, {}))


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


def channels_of(body: nn.Module) -> tuple[int, ...]:
    """Channels of an extractor's maps."""
    return tuple(body.feature_info.channels())  # type: ignore[operator,union-attr]


def is_channels_last(body: nn.Module) -> bool:
    """Whether maps are (B, h, w, C); timm's families with a class of their own do not say."""
    return bool(getattr(body, "output_fmt", Format.NCHW) == Format.NHWC)


def find_multiple(name: str, body: nn.Module) -> int:
    """Of which number the sides of a canvas are to be multiples for a model to take it.

    The model is tried; one without memory, on the meta device, is not.

    Args:
        name: of the model.
        body: the model.

    Raises:
        ConfigError: it takes images of one size alone, or gives other maps than timm says.
    """
    if next(body.parameters()).is_meta:
        return _MULTIPLES[0]
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
    for features, channels, stride in zip(maps, channels_of(body), STRIDES, strict=True):
        if is_channels_last(body):
            features = features.movedim(-1, 1)
        shape = tuple(features.shape[1:])
        sides = zip(shape[1:], canvas, strict=True)
        fits = all(side // stride <= n <= -(-side // stride) for n, side in sides)
        if not fits or shape[0] != channels:
            raise ValueError(f"at {canvas} pixels its map of stride {stride} is {shape}")
