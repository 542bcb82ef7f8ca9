"""What is behind the people: walls, skies, grounds, trees, furniture and balls."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from uniphd.structures import Size
from uniphd.synthetic.appearance import COLORS, Rgb, pick, shaded

_GRAIN_MARGIN = 256  # pixels that the stored noise is larger than an image
_OCTAVES = (4, 16, 64)

# Muted, so that people stand out; clothes' colours come from the distractors.
_WALLS: tuple[Rgb, ...] = (
    (196, 188, 172), (150, 168, 180), (120, 126, 132), (214, 214, 208), (176, 150, 130),
    (132, 150, 130), (92, 98, 110), (160, 186, 214), (188, 206, 222), (210, 180, 170),
)  # fmt: skip
_GROUNDS: tuple[Rgb, ...] = (
    (122, 142, 92), (150, 132, 106), (118, 116, 114), (186, 172, 140), (96, 84, 74),
    (168, 166, 164), (92, 120, 78), (140, 108, 84),
)  # fmt: skip
_WOOD: tuple[Rgb, ...] = ((104, 76, 52), (140, 104, 70), (76, 58, 46))
_LEAVES: tuple[Rgb, ...] = ((64, 104, 58), (84, 124, 66), (110, 128, 60))


def render_background(rng: np.random.Generator, size: Size) -> Image.Image:
    """A scene without people.

    Args:
        rng: of every random number.
        size: (height, width).
    """
    horizon = float(rng.uniform(0.3, 0.62)) * size[0]
    pixels = _surfaces(rng, size, horizon)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 6))):
        pick(rng, (_box, _box, _tree, _ball, _frame, _pole))(draw, rng, size, horizon)
    radius = float(rng.uniform(0.3, 1.2)) * min(size) / 128
    return image.filter(ImageFilter.BoxBlur(radius))


def grain(rng: np.random.Generator, size: Size) -> npt.NDArray[np.float32]:
    """Noise (h, w, 3) of unit deviation, a random window of a stored larger one."""
    top, left = rng.integers(0, _GRAIN_MARGIN, 2).tolist()
    return _stored_grain(size)[top : top + size[0], left : left + size[1]]


@cache
def _stored_grain(size: Size) -> npt.NDArray[np.float32]:
    shape = (size[0] + _GRAIN_MARGIN, size[1] + _GRAIN_MARGIN, 3)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _surfaces(rng: np.random.Generator, size: Size, horizon: float) -> npt.NDArray[np.uint8]:
    """Wall or sky above the horizon and ground below it, each with its gradient and texture."""
    height = size[0]
    rows = (np.arange(height) + 0.5)[:, None]
    below = rows > horizon
    wall, ground = np.array(pick(rng, _WALLS)), np.array(pick(rng, _GROUNDS))
    steep = rng.uniform(-0.35, 0.35, 2)
    shade = 1 + np.where(below, steep[0], steep[1]) * (rows / height - 0.5)
    base = np.where(below, ground, wall) * shade  # (height, 3)
    pattern = _clouds(rng, size) * rng.uniform(4, 26)
    if rng.random() < 0.4:
        pattern = pattern + _stripes(rng, size, below)
    pixels = base[:, None].astype(np.float32) + pattern[..., None].astype(np.float32)
    colors: npt.NDArray[np.uint8] = pixels.clip(0, 255).astype(np.uint8)
    return colors


def _clouds(rng: np.random.Generator, size: Size) -> npt.NDArray[np.float32]:
    """Smooth noise (h, w) of about unit deviation, several frequencies."""
    total = np.zeros(size, dtype=np.float32)
    for cells in _OCTAVES[: int(rng.integers(1, len(_OCTAVES) + 1))]:
        coarse = rng.standard_normal((cells, cells), dtype=np.float32)
        smooth = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
        total += np.asarray(smooth)
    return total


def _stripes(
    rng: np.random.Generator, size: Size, below: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Planks, tiles or wallpaper (h, w) on the wall or on the ground."""
    height, width = size
    period = rng.uniform(0.04, 0.2) * min(size)
    phase = rng.uniform(0, period)
    vertical = np.sign(np.sin((np.arange(width) + phase) * (2 * np.pi / period)))[None]
    level = np.sign(np.sin((np.arange(height) + phase) * (2 * np.pi / period)))[:, None]
    pattern = pick(rng, (vertical + 0 * level, level + 0 * vertical, vertical * level))
    where = below if rng.random() < 0.5 else ~below
    return np.where(where, pattern * rng.uniform(4, 22), 0)


def _any_color(rng: np.random.Generator) -> Rgb:
    """A colour that people may wear too, somewhat dulled or not."""
    return shaded(pick(rng, tuple(COLORS.values())), float(rng.uniform(0.55, 1.0)))


def _box(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: Size, horizon: float) -> None:
    """A house, a cupboard or a sofa that stands on the ground."""
    height, width = size
    x, w = rng.uniform(-0.1, 0.9) * width, rng.uniform(0.1, 0.4) * width
    bottom = horizon + rng.uniform(0, 0.15) * height
    top = bottom - rng.uniform(0.1, 0.5) * height
    color = _any_color(rng) if rng.random() < 0.4 else pick(rng, _WALLS + _WOOD)
    draw.rectangle((x, top, x + w, bottom), fill=color)
    dark = shaded(color, 0.75)
    if rng.random() < 0.5:
        draw.rectangle((x, top, x + w, top + 0.15 * (bottom - top)), fill=dark)
    else:
        draw.rectangle((x + 0.6 * w, top + 0.3 * (bottom - top), x + 0.9 * w, bottom), fill=dark)


def _tree(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: Size, horizon: float) -> None:
    height, width = size
    x, unit = rng.uniform(0, 1) * width, rng.uniform(0.08, 0.2) * height
    bottom = horizon + rng.uniform(0, 0.12) * height
    draw.rectangle((x - 0.12 * unit, bottom - 2 * unit, x + 0.12 * unit, bottom),
                   fill=pick(rng, _WOOD))  # fmt: skip
    color = pick(rng, _LEAVES)
    for _ in range(4):
        dx, dy = rng.uniform(-0.6, 0.6, 2) * unit
        r = rng.uniform(0.5, 0.8) * unit
        cy = bottom - 2.2 * unit + dy
        draw.ellipse((x + dx - r, cy - r, x + dx + r, cy + r),
                     fill=shaded(color, float(rng.uniform(0.8, 1.15))))  # fmt: skip


def _ball(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: Size, horizon: float) -> None:
    height, width = size
    r = rng.uniform(0.02, 0.07) * height
    x, y = rng.uniform(0, width), rng.uniform(horizon, height)
    color = _any_color(rng)
    draw.ellipse((x - r, y - r, x + r, y + r), fill=color)
    draw.ellipse((x - 0.5 * r, y - 0.6 * r, x, y - 0.1 * r), fill=shaded(color, 1.25))


def _frame(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: Size, horizon: float) -> None:
    """An image or a window on the wall."""
    height, width = size
    w, h = rng.uniform(0.08, 0.3) * width, rng.uniform(0.08, 0.25) * height
    x, y = rng.uniform(0, width - w), rng.uniform(0, max(1.0, horizon - h))
    draw.rectangle((x, y, x + w, y + h), fill=_any_color(rng), outline=pick(rng, _WOOD))


def _pole(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: Size, horizon: float) -> None:
    """A lamp post, as thin as an arm."""
    height, width = size
    x, w = rng.uniform(0, width), rng.uniform(0.01, 0.04) * width
    bottom = horizon + rng.uniform(0, 0.2) * height
    top = rng.uniform(0, 0.9) * horizon
    draw.rectangle((x, top, x + w, bottom), fill=pick(rng, _WOOD + _WALLS))
