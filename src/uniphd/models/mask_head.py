"""Mask head: every query generates a small convolution that draws its person's mask.

Shapes: B images, N queries asked for, C channels, G = 16 mask channels, h8 x w8 and h4 x w4 the
maps at strides 8 and 4, H x W the padded canvas.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.models.layers import MLP
from uniphd.models.levels import pixel_centres
from uniphd.models.outputs import MaskFeatures
from uniphd.structures import Size

_GROUP = 16  # mask channels; 4 x 4 sub-pixels of the stride-4 map
_STRIDE = 8


class MaskHead(nn.Module):
    """Dynamic 1x1 convolutions over the memory, refined with finer backbone maps.

    Args:
        hidden_dim: C.
        stride4_dim: channels of the stride-4 backbone map.
        stride8_dim: channels of the stride-8 backbone map.
    """

    def __init__(
        self, hidden_dim: int = 256, stride4_dim: int = 96, stride8_dim: int = 192
    ) -> None:
        super().__init__()
        dynamic = (hidden_dim + 2) * _GROUP + _GROUP * _GROUP + 2 * _GROUP
        self.controller = MLP(hidden_dim, hidden_dim, dynamic, num_layers=3)
        self.refine8 = RefinementStep(stride8_dim)
        self.refine4 = RefinementStep(stride4_dim)
        for layer in self.controller.layers:
            nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def coarse(self, features: MaskFeatures, embedding: Tensor, centre: Tensor) -> Tensor:
        """Mask channels at stride 8.

        Args:
            features: the image.
            embedding: (B, N, C) instance slots of the queries.
            centre: (B, N, 2) reference centres, fractions of the image.

        Returns:
            (B, N, G, h8, w8).
        """
        first, second, second_bias = self._hidden_convolution(features, embedding, centre)
        shape = features.memory.shape[-2:]
        masks = torch.baddbmm(second_bias, second, first.relu().flatten(0, 1))
        batch, num = embedding.shape[:2]
        return masks.view(batch, num, _GROUP, *shape)

    def _hidden_convolution(
        self, features: MaskFeatures, embedding: Tensor, centre: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """First dynamic convolution's output (B, N, G, h8 * w8), weights and bias of the second.

        The first convolution sees C memory channels, then two coordinates, in pixels, relative to
        the query's centre. The memory part is one product for all queries; the other is added.
        """
        parameters = self.controller(embedding)
        batch, num = embedding.shape[:2]
        channels = features.memory.shape[1]
        weight1, weight2, bias1, bias2 = parameters.split(
            [(channels + 2) * _GROUP, _GROUP * _GROUP, _GROUP, _GROUP], dim=-1
        )
        weight1 = weight1.view(batch, num, _GROUP, channels + 2)
        on_memory = weight1[..., :channels].reshape(batch, num * _GROUP, channels)
        hidden = torch.bmm(on_memory, features.memory.flatten(2))
        relative = relative_coordinates(features, centre)
        hidden = hidden.view(batch, num, _GROUP, -1) + weight1[..., channels:].float() @ relative
        return (
            hidden + bias1.unsqueeze(-1),
            weight2.view(batch * num, _GROUP, _GROUP),
            bias2.view(batch * num, _GROUP, 1),
        )

    def low_resolution(self, coarse: Tensor) -> Tensor:
        """Unrefined mask logits (B, N, H / 2, W / 2) from the coarse channels."""
        return F.pixel_shuffle(coarse, 4).squeeze(2)

    def occupancy(self, coarse: Tensor) -> Tensor:
        """Share of every stride-8 cell that an unrefined mask covers, (B, N, h8, w8) float32."""
        return coarse.float().sigmoid().mean(2)

    def refine(self, features: MaskFeatures, coarse: Tensor) -> Tensor:
        """Mask logits (B, N, H, W) on the padded canvas from the coarse channels."""
        masks = self.refine8(coarse, features.stride8)
        batch, num = masks.shape[:2]
        masks = F.interpolate(
            masks.flatten(0, 1), features.stride4.shape[-2:], mode="bilinear", align_corners=False
        ).unflatten(0, (batch, num))
        masks = self.refine4(masks, features.stride4)
        return F.pixel_shuffle(masks, 4).squeeze(2)

    def forward(self, features: MaskFeatures, embedding: Tensor, centre: Tensor) -> Tensor:
        """Mask logits (B, N, H, W) of the given queries; arguments as in `coarse`."""
        return self.refine(features, self.coarse(features, embedding, centre))


class RefinementStep(nn.Module):
    """Add two 3x3 convolutions of [mask channels, backbone map] to the mask channels.

    The first convolution is linear in its two inputs, so the backbone map's part is computed once
    for an image rather than once per query.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(_GROUP + feature_dim, _GROUP, 3, padding=1)
        self.conv2 = nn.Conv2d(_GROUP, _GROUP, 3, padding=1)

    def forward(self, masks: Tensor, features: Tensor) -> Tensor:
        """Update masks (B, N, G, h, w) with a backbone map (B, D, h, w)."""
        batch, num = masks.shape[:2]
        on_masks, on_features = self.conv1.weight.split([_GROUP, features.shape[1]], dim=1)
        shared = F.conv2d(features.relu(), on_features, self.conv1.bias, padding=1)
        flat = masks.flatten(0, 1)
        hidden = F.conv2d(flat.relu(), on_masks, padding=1).unflatten(0, (batch, num))
        hidden = (hidden + shared.unsqueeze(1)).relu().flatten(0, 1)
        update: Tensor = self.conv2(hidden)
        return masks + update.view_as(masks)


def relative_coordinates(features: MaskFeatures, centre: Tensor) -> Tensor:
    """Centre minus pixel location (B, N, 2, h8 * w8) in pixels, x first, in float32.

    The centre is scaled by the unpadded image (official release).
    """
    height, width = features.memory.shape[-2:]
    locations = pixel_centres((height, width), centre.device).flatten(0, 1) * _STRIDE
    pixels = centre.float() * features.extent.unsqueeze(1)
    return pixels.unsqueeze(-1) - locations.T


def sum_levels(levels: Sequence[Tensor]) -> Tensor:
    """Resize maps (B, C, h_i, w_i) bicubically to the first one's size and add them."""
    first, *others = levels
    for level in others:
        first = first + resize_bicubic(level, (first.shape[-2], first.shape[-1]))
    return first


def resize_bicubic(maps: Tensor, shape: Size) -> Tensor:
    """`F.interpolate(maps, shape, mode="bicubic")` of maps (B, C, h, w) as two matrix products.

    A tenth of its time on a CPU, and the gradient is deterministic on CUDA, too.
    """
    rows, columns = (
        _resizing(old, new, maps.device).to(maps.dtype)
        for old, new in zip(maps.shape[-2:], shape, strict=True)
    )
    return rows @ maps @ columns.T


def _resizing(old: int, new: int, device: torch.device) -> Tensor:
    """The matrix (new, old) that resizes a column, which is what becomes of unit vectors."""
    units = torch.eye(old, device=device).view(1, 1, old, old)
    return F.interpolate(units, (new, old), mode="bicubic")[0, 0]
