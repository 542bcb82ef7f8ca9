"""Neck: backbone maps of any width as four levels of the transformer's width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from uniphd.errors import ConfigError

NORM_GROUPS = 32
"""Groups of the norms, which divide C."""


class ChannelMapper(nn.Module):
    """1x1 convolutions for the given maps, then 3x3 stride-2 convolutions for further levels.

    Args:
        in_channels: channels of the maps, finest first.
        hidden_dim: C, a multiple of `NORM_GROUPS`.
        num_levels: levels to give; every level beyond the maps halves the one before, the first of
            them taken from the last map itself.

    Raises:
        ConfigError: C is no multiple of `NORM_GROUPS`, or there are fewer levels than maps.
    """

    def __init__(
        self, in_channels: Sequence[int], hidden_dim: int = 256, num_levels: int = 4
    ) -> None:
        super().__init__()
        if hidden_dim % NORM_GROUPS:
            raise ConfigError(
                f"sizes.hidden_dim={hidden_dim} is not a multiple of {NORM_GROUPS}, the groups of "
                "the neck's norms; give one that is."
            )
        if num_levels < len(in_channels):
            raise ConfigError(
                f"sizes.num_levels={num_levels} leaves out some of the backbone's "
                f"{len(in_channels)} maps; give at least {len(in_channels)}."
            )
        self.levels = nn.ModuleList(_projection(width, hidden_dim, 1) for width in in_channels)
        width = in_channels[-1]
        for _ in range(num_levels - len(in_channels)):
            self.levels.append(_projection(width, hidden_dim, 3))
            width = hidden_dim

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map (B, in_channels[i], h, w) each to (B, C, h, w), plus the further levels."""
        num_maps = len(maps)
        levels = [level(features) for level, features in zip(self.levels, maps, strict=False)]
        source = maps[-1]
        for level in list(self.levels)[num_maps:]:
            source = level(source)
            levels.append(source)
        return levels


def _projection(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    stride = 1 if kernel == 1 else 2
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2)
    nn.init.xavier_uniform_(convolution.weight)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return nn.Sequential(convolution, nn.GroupNorm(NORM_GROUPS, out_channels))
