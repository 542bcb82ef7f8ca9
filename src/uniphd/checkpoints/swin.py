"""Microsoft's Swin checkpoints: their key names and the timm model they belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from uniphd.errors import CheckpointError

# (embedding width, depth of the third stage, window) -> timm name; the input size in the name does
# not matter, since any size is accepted.
_TIMM_NAMES = {
    (96, 6, 7): "swin_tiny_patch4_window7_224",
    (96, 18, 7): "swin_small_patch4_window7_224",
    (128, 18, 7): "swin_base_patch4_window7_224",
    (128, 18, 12): "swin_base_patch4_window12_384",
    (192, 18, 7): "swin_large_patch4_window7_224",
    (192, 18, 12): "swin_large_patch4_window12_384",
}


def to_timm_swin(key: str) -> str:
    """Timm's name (in its feature extractor) of an entry of Microsoft's Swin state dict.

    Microsoft puts the downsampling at the end of a stage, timm at the start of the next one.
    """
    if match := re.match(r"layers\.(\d)\.downsample\.(.+)", key):
        return f"layers_{int(match[1]) + 1}.downsample.{match[2]}"
    return re.sub(r"^layers\.(\d)\.", r"layers_\1.", key)


def swin_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `uniphd.models.backbone.Backbone` for Microsoft's Swin state dict.

    Raises:
        CheckpointError: no Swin of these sizes is known.
    """
    try:
        width = state["patch_embed.proj.weight"].shape[0]
        table = state["layers.0.blocks.0.attn.relative_position_bias_table"].shape[0]
    except KeyError as error:
        raise CheckpointError(f"This is not a Swin state dict: it lacks {error}.") from error
    depth = 1 + max(
        int(match[1]) for key in state if (match := re.match(r"layers\.2\.blocks\.(\d+)\.", key))
    )
    window = (int(table**0.5) + 1) // 2
    if (width, depth, window) not in _TIMM_NAMES:
        raise CheckpointError(
            f"No Swin model is known with embedding width {width}, {depth} blocks in the third "
            f"stage and window {window}; known are {sorted(_TIMM_NAMES)}."
        )
    return {
        "name": _TIMM_NAMES[width, depth, window],
        "channels": [width * 2**stage for stage in range(4)],
        "options": {"drop_path_rate": 0.2},
    }
