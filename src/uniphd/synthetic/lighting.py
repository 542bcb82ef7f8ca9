"""From flat colours to something like an image: shadows, light, blur and noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from uniphd.structures import Size
from uniphd.synthetic.background import grain
from uniphd.synthetic.layout import PersonInstance


def add_shadows(
    background: Image.Image, instances: Sequence[PersonInstance]
) -> npt.NDArray[np.uint8]:
    """The background (h, w, 3) with a soft dark spot under everybody's feet."""
    spots = Image.new("L", background.size, 255)
    draw = ImageDraw.Draw(spots)
    for instance in instances:
        feet = instance.place(instance.skeleton.pair("toes")[:, :2])
        x, y = feet[:, 0].mean(), feet[:, 1].max()
        w, h = 0.2 * instance.height + abs(feet[1, 0] - feet[0, 0]) / 2, 0.035 * instance.height
        draw.ellipse((x - w, y - h, x + w, y + h), fill=165)
    spots = spots.filter(ImageFilter.BoxBlur(0.012 * min(background.size)))
    shade = np.asarray(spots, dtype=np.uint16)[..., None]
    return (np.asarray(background) * shade // 255).astype(np.uint8)


def apply_lighting(
    rng: np.random.Generator, image: npt.NDArray[np.float32], size: Size
) -> npt.NDArray[np.uint8]:
    """Light from a side, its colour and strength, a little blur, and the sensor's noise.

    Args:
        rng: of every random number.
        image: (h, w, 3) 0..255 under white light.
        size: (height, width).
    """
    height, width = size
    warmth = rng.uniform(-0.06, 0.06)
    gain = rng.uniform(0.78, 1.1) * np.array([1 + warmth, 1, 1 - warmth])
    slope = rng.uniform(-0.14, 0.14, 2)
    across = np.linspace(-slope[0], slope[0], width, dtype=np.float32)
    down = np.linspace(1 - slope[1], 1 + slope[1], height, dtype=np.float32)
    lit = image * (across + down[:, None])[..., None]
    lit *= gain.astype(np.float32)
    if rng.random() < 0.35:
        radius = float(rng.uniform(0.25, 0.6)) * min(size) / 128
        soft = Image.fromarray(lit.clip(0, 255).astype(np.uint8))
        lit = np.array(soft.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)
    lit += grain(rng, size) * np.float32(rng.uniform(1, 8))
    lit += np.float32(rng.uniform(0, 14))  # scattered light: black is never quite black
    exposed: npt.NDArray[np.uint8] = lit.clip(0, 255).astype(np.uint8)
    return exposed
