"""Swin's padding as Microsoft trained it.

Images are zero-padded to whole patches. Maps are zero-padded to whole windows first and shifted
cyclically then: timm's block shifts first and pads afterwards, which differs on every map that is
not a multiple of the window. The parameters are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.swin_transformer import SwinTransformerBlock, window_partition, window_reverse
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.models.layers import PART_ROWS, parts_are_faster


class PadThenShiftBlock(SwinTransformerBlock):
    """timm's Swin block with the official order of padding and shifting."""

    def _attn(self, x: Tensor) -> Tensor:
        """Window attention over x (B, h, w, C)."""
        _, height, width, channels = x.shape
        window_h, window_w = self.window_size
        shift_h, shift_w = self.shift_size
        shifted = bool(shift_h or shift_w)
        x = F.pad(x, (0, 0, 0, -width % window_w, 0, -height % window_h))
        padded_h, padded_w = x.shape[1], x.shape[2]
        mask = None
        if shifted:
            x = torch.roll(x, shifts=(-shift_h, -shift_w), dims=(1, 2))
            # what a tracer makes of it must not be kept
            make = _shift_mask.__wrapped__ if torch.compiler.is_compiling() else _shift_mask
            mask = make((padded_h, padded_w), self.window_size, self.shift_size, x.device, x.dtype)
        windows = window_partition(x, self.window_size).view(-1, self.window_area, channels)
        windows = self._attend(windows, mask).view(-1, window_h, window_w, channels)
        x = window_reverse(windows, self.window_size, padded_h, padded_w)
        if shifted:
            x = torch.roll(x, shifts=(shift_h, shift_w), dims=(1, 2))
        return x[:, :height, :width]

    def _attend(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Attention within windows (B * N, area, C), a few at a time where that is faster."""
        if not parts_are_faster(windows):
            return self.attn(windows, mask=mask)  # type: ignore[no-any-return]
        count = max(1, PART_ROWS // self.window_area)
        parts = windows.split(count)
        masks: Sequence[Tensor | None] = [None] * len(parts)
        if mask is not None:
            masks = mask.repeat(len(windows) // len(mask), 1, 1).split(count)
        attended = [self.attn(part, mask=m) for part, m in zip(parts, masks, strict=True)]
        return torch.cat(attended)


def pad_as_official(model: nn.Module) -> bool:
    """Turn a timm Swin (built with `always_partition=True`) into ours; False for another model.

    The blocks' class is exchanged rather than a method patched, so that copies of the model (an
    EMA, a pickle) keep the behaviour.
    """
    blocks = [part for part in model.modules() if isinstance(part, SwinTransformerBlock)]
    for block in blocks:
        block.__class__ = PadThenShiftBlock
        block.attn.fused_attn = True
    for part in model.modules():
        if blocks and isinstance(part, PatchEmbed):
            part.dynamic_img_pad = True
    return bool(blocks)


@lru_cache(maxsize=64)
def _shift_mask(
    size: tuple[int, int],
    window: tuple[int, int],
    shift: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Mask (windows, area, area): -100 between tokens that the cyclic shift made neighbours."""
    with torch.inference_mode(False), torch.no_grad():
        rows = _regions(size[0], window[0], shift[0], device)
        columns = _regions(size[1], window[1], shift[1], device)
        region = (rows[:, None] * 3 + columns[None, :]).to(dtype)
        regions = window_partition(region[None, :, :, None], window).flatten(1)
        different = regions[:, None, :] != regions[:, :, None]
        return torch.zeros_like(different, dtype=dtype).masked_fill(different, -100.0)


def _regions(length: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Number along one axis: 0 before the last window, 1 in it, 2 in its wrapped-around part."""
    index = torch.arange(length, device=device)
    return (index >= length - window).long() + (index >= length - shift).long()
