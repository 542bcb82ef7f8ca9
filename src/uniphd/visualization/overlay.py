"""Masks drawn over an image."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageFilter

from uniphd.visualization.canvas import MASK, Color

Mask: TypeAlias = npt.NDArray[np.bool_]
"""(H, W) bool, True on the person."""


def render_mask(
    image: Image.Image,
    mask: Mask,
    *,
    color: Color = MASK,
    opacity: float = 0.42,
    contour: int | None = None,
) -> Image.Image:
    """RGB copy of `image` with the mask tinted and its inner contour drawn solid.

    Pixels outside the mask keep their values.

    Args:
        image: the image.
        mask: (H, W) bool of the image's size.
        color: tint and contour colour.
        opacity: share of the tint inside the mask, 0..1.
        contour: contour width in pixels, 0 for none; None takes what suits the image's size.
    """
    if contour is None:
        contour = max(1, round(min(image.size) / 240))
    region = Image.fromarray(mask.astype(np.uint8) * 255)
    result = image.convert("RGB")
    result.paste(color, mask=region.point([round(value * opacity) for value in range(256)]))
    if contour > 0:
        inside = region.filter(ImageFilter.MinFilter(2 * contour + 1))
        result.paste(color, mask=ImageChops.subtract(region, inside))
    return result
