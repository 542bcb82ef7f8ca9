"""8-bit linear layers for faster predictions on CPUs, at a loss of accuracy to be measured."""

from __future__ import annotations

import re
import warnings

from torch import nn
from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

from uniphd.models.uniphd import UniPHD

# Where the arithmetic is. Left in float32: what places points (sampling offsets, heads), what
# generates masks, and small layers, where the conversion costs more than it saves.
_LAYERS = re.compile(
    r"backbone\.|text_encoder\.|\.feedforward\.|_feedforward\.|\.value_proj$|\.output_proj$"
)


def quantize_linear_layers(model: UniPHD) -> UniPHD:
    """A copy of the network whose large linear layers multiply 8-bit integers.

    Weights are rounded once, one scale per output channel; a layer's inputs are rounded on the fly,
    one scale per call, so results depend a little on what else is in the batch. (PyTorch's dynamic
    quantization; x86 with AVX2 and ARM, no gradients.)

    Args:
        model: on the CPU, in evaluation mode; stays as it is.
    """
    names = [
        name
        for name, module in model.named_modules()
        if type(module) is nn.Linear and _LAYERS.search(name)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="torch.ao")
        quantized: UniPHD = quantize_dynamic(
            model, dict.fromkeys(names, per_channel_dynamic_qconfig)
        )
    return quantized
