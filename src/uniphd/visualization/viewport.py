"""A window onto an image: a region of it, enlarged or shrunk to fit a panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from uniphd.structures import Size
from uniphd.visualization.overlay import Mask
from uniphd.visualization.skeleton import Flags, Keypoints

_CONTEXT = 0.22  # margin around a person over the longer side of its box
_MIN_REGION = 48.0  # pixels: a smaller region would show nothing but blur


@dataclass(frozen=True)
class View:
    """A region of an image and how much it is enlarged.

    Attributes:
        left: x of the region's left edge in the image.
        top: y of the region's upper edge.
        width: the region's width in pixels of the image.
        height: the region's height.
        scale: panel pixels per image pixel.
    """

    left: float
    top: float
    width: float
    height: float
    scale: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The region (x1, y1, x2, y2) in the image."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    def crop(self, image: Image.Image) -> Image.Image:
        """The region of `image` at the view's scale, RGB."""
        return image.convert("RGB").resize(self._size, Image.Resampling.LANCZOS, box=self.box)

    def crop_mask(self, mask: Mask) -> Mask:
        """The region of an (H, W) mask at the view's scale, edges smoothed where it is enlarged."""
        rendered = Image.fromarray(mask.astype(np.uint8) * 255)
        resized = rendered.resize(self._size, Image.Resampling.BICUBIC, box=self.box)
        return np.asarray(resized) >= 128

    def map_points(self, points: Keypoints) -> Keypoints:
        """Points (..., 2) of the image in the panel's pixels."""
        origin = np.array((self.left, self.top))
        mapped: Keypoints = (points - origin) * self.scale
        return mapped

    @property
    def _size(self) -> tuple[int, int]:
        """(width, height) of the panel content."""
        return max(1, round(self.width * self.scale)), max(1, round(self.height * self.scale))


def whole(image_size: Size, panel_size: Size) -> View:
    """View of a whole image, as large as the panel allows; sizes are (height, width)."""
    height, width = image_size
    scale = min(panel_size[0] / height, panel_size[1] / width)
    return View(0.0, 0.0, float(width), float(height), scale)


def around(masks: Sequence[Mask], skeleton: tuple[Keypoints, Flags], panel_size: Size) -> View:
    """View that holds masks and a skeleton, with some context, in the panel's shape.

    A few stray pixels of a mask do not widen the view: it holds 98 % of every mask.

    Args:
        masks: (H, W) bool each, at least one; they tell the image's size.
        skeleton: keypoints (K, 2) and which of them are visible (K,).
        panel_size: (height, width) to fill.

    Returns:
        The whole image when there is nothing to hold. The region stays inside the image, so
        that its shape differs from the panel's where the image is too small.
    """
    image_height, image_width = masks[0].shape
    extents = [*(_mask_extent(mask) for mask in masks), _skeleton_extent(*skeleton)]
    corners = np.concatenate(extents)
    if not len(corners):
        return whole((image_height, image_width), panel_size)
    corners = np.clip(corners, 0, (image_width, image_height))
    low, high = corners.min(axis=0), corners.max(axis=0)
    padding = _CONTEXT * float((high - low).max())
    need_width, need_height = np.maximum(high - low + 2 * padding, _MIN_REGION).tolist()
    aspect = panel_size[1] / panel_size[0]
    width = min(max(need_width, need_height * aspect), image_width)
    height = min(max(need_height, need_width / aspect), image_height)
    centre = (low + high) / 2
    left = float(np.clip(centre[0] - width / 2, 0, image_width - width))
    top = float(np.clip(centre[1] - height / 2, 0, image_height - height))
    return View(left, top, width, height, min(panel_size[0] / height, panel_size[1] / width))


def _mask_extent(mask: Mask) -> Keypoints:
    """Lowest and highest (x, y), (2, 2), less a hundredth of the mask per side; (0, 2) if empty."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return np.empty((0, 2))
    low, high = np.quantile(np.stack((columns, rows), axis=1), (0.01, 0.99), axis=0)
    return np.stack((low, high + 1))


def _skeleton_extent(keypoints: Keypoints, visible: Flags) -> Keypoints:
    """The visible keypoints (n, 2) that are finite."""
    return keypoints[visible & np.isfinite(keypoints).all(axis=1)]
