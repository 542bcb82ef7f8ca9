"""`torch.compile` for the parts of a network whose work depends on tensors alone.

What is around them, the assembly of a batch from prompts of several kinds, branches on Python
values that change from batch to batch, which a compiler would have to translate again and again.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from uniphd.errors import ConfigError
from uniphd.models.uniphd import UniPHD


def compile_parts(network: UniPHD, **options: Any) -> None:
    """Compile a network in place: its modules, parameters and state-dict keys stay as they are.

    The parts are the language model and every layer of encoder and decoder; layers
    of one shape share their compiled code. Sizes may change from batch to batch.

    Args:
        network: to be compiled when it is first called.
        options: of `torch.compile`, such as `mode`.

    Raises:
        ConfigError: an unknown mode.
    """
    from torch._inductor import list_mode_options  # takes seconds to import

    mode, modes = options.get("mode", "default"), sorted(list_mode_options())
    if mode not in modes:
        raise ConfigError(
            f"compile={mode} is no mode of torch.compile; choose null or one of {', '.join(modes)}."
        )
    for part in compiled_parts(network):
        part.compile(dynamic=True, **options)


def compiled_parts(network: UniPHD) -> list[nn.Module]:
    """The parts that `compile_parts` compiles."""
    text_encoder = network.prompt_encoder.text_encoder
    layers = [*network.encoder.layers, *network.decoder.layers]
    return [text_encoder, *layers]
