"""8-bit linear layers for faster predictions on CPUs, at a loss of accuracy to be measured."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

from uniphd.models.uniphd import UniPHD

# Where the arithmetic is. Left in float32: what places points (sampling offsets, heads), what
# generates masks, and small layers, where the conversion costs more than it saves.
_LAYERS = re.compile(
    r"backbone\.|text_encoder\.|\.feedforward\.|_feedforward\.|\.value_proj$|\.output_proj$"
)

_FOREIGN = re.compile(r"backbone\.|prompt_encoder\.text_encoder\.")  # made by libraries
_PROBE = (64, 64)  # pixels


def quantize_linear_layers(model: UniPHD) -> UniPHD:
    """A copy of the network whose large linear layers multiply 8-bit integers.

    Weights are rounded once, one scale per output channel; a layer's inputs are rounded on the fly,
    one scale per call, so results depend a little on what else is in the batch. (PyTorch's dynamic
    quantization; x86 with AVX2 and ARM, no gradients.) Layers of libraries that are never called,
    because somebody multiplies with their weights directly (as timm's Swin v2 does), stay as they
    are.

    Args:
        model: on the CPU, in evaluation mode; stays as it is.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and _LAYERS.search(name)
    }
    unused = _unused({name: layer for name, layer in layers.items() if _FOREIGN.match(name)}, model)
    names = [name for name in layers if name not in unused]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="torch.ao")
        quantized: UniPHD = quantize_dynamic(
            model, dict.fromkeys(names, per_channel_dynamic_qconfig)
        )
    return quantized


def _unused(layers: Mapping[str, nn.Linear], model: UniPHD) -> set[str]:
    """Names of layers that nobody calls while an image and a text are read."""
    names = {id(layer): name for name, layer in layers.items()}
    unused = set(layers)

    def note(layer: nn.Module, _: Any) -> None:
        unused.discard(names[id(layer)])

    hooks = [layer.register_forward_pre_hook(note) for layer in layers.values()]
    try:
        with torch.inference_mode():
            image = torch.zeros(1, 3, *_PROBE, dtype=torch.uint8)
            pixels, _ = model.backbone.prepare(image, torch.zeros(1, *_PROBE, dtype=torch.bool))
            model.backbone(pixels)
            words = torch.zeros(1, 2, dtype=torch.long)
            model.prompt_encoder.text_encoder(words, torch.ones_like(words))
    finally:
        for hook in hooks:
            hook.remove()
    return unused
