"""What a synthetic person wears and looks like: the palette, the wardrobe, the held-out pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import numpy as np

Rgb: TypeAlias = tuple[int, int, int]
ColorPair: TypeAlias = tuple[str, str]
"""Names of the colours of a shirt and of what is worn below it."""

Bottom: TypeAlias = Literal["trousers", "shorts", "skirt"]
Sleeves: TypeAlias = Literal["none", "short", "long"]
HairLength: TypeAlias = Literal["bald", "short", "long"]
Hat: TypeAlias = Literal["cap", "beanie", "brim"]

COLORS: dict[str, Rgb] = {
    "red": (206, 34, 40),
    "orange": (240, 128, 24),
    "yellow": (240, 216, 48),
    "green": (36, 146, 64),
    "blue": (36, 76, 204),
    "purple": (130, 44, 160),
    "white": (240, 240, 238),
    "black": (30, 30, 34),
}
"""Colours of clothes that have a name, far apart under any light that a scene may have."""

SHIRT_COLORS = tuple(COLORS)
BOTTOM_COLORS = ("red", "yellow", "green", "blue", "purple", "white", "black")
HAT_COLORS = ("red", "yellow", "green", "blue", "white", "black")

HELD_OUT: frozenset[ColorPair] = frozenset(
    {
        ("red", "black"),
        ("orange", "blue"),
        ("yellow", "green"),
        ("green", "white"),
        ("blue", "red"),
        ("purple", "yellow"),
        ("white", "purple"),
        ("black", "blue"),
    }
)
"""Pairs that nobody wears in training and ordinary validation; one for every shirt colour, and
every colour of each kind occurs in other pairs."""

SEEN_PAIRS: tuple[ColorPair, ...] = tuple(
    (shirt, bottom)
    for shirt in SHIRT_COLORS
    for bottom in BOTTOM_COLORS
    if (shirt, bottom) not in HELD_OUT
)

HAIR_COLORS: dict[str, Rgb] = {
    "black": (28, 24, 24),
    "brown": (92, 56, 32),
    "red": (164, 72, 30),
    "blond": (224, 186, 104),
    "grey": (170, 170, 172),
}

# From light to dark, after the six types of the Fitzpatrick scale and steps between them.
SKIN_TONES: tuple[Rgb, ...] = (
    (250, 222, 200),
    (240, 200, 170),
    (224, 176, 140),
    (202, 150, 112),
    (172, 120, 84),
    (140, 92, 60),
    (108, 68, 46),
    (74, 48, 36),
)

_SHOES: tuple[Rgb, ...] = ((34, 32, 34), (90, 60, 40), (226, 226, 224), (120, 120, 124))

_Choice = TypeVar("_Choice")


@dataclass(frozen=True)
class Appearance:
    """Clothes, hair and skin of one person.

    Attributes:
        shirt: name of its colour.
        bottom: name of the colour of trousers, shorts or skirt.
        bottom_kind: which of the three.
        sleeves: of the shirt.
        hair: name of its colour.
        hair_length: bald people have a hair colour too, which nobody sees.
        hat: kind of hat or None.
        hat_color: name of its colour, or None without a hat.
        skin: its colour.
        shoes: their colour.
        stripes: whether the shirt has bands of a darker shade.
        tint: added to the colour of every garment; no two reds are the same.
    """

    shirt: str
    bottom: str
    bottom_kind: Bottom
    sleeves: Sleeves
    hair: str
    hair_length: HairLength
    hat: Hat | None
    hat_color: str | None
    skin: Rgb
    shoes: Rgb
    stripes: bool
    tint: Rgb


def sample_appearance(rng: np.random.Generator, pair: ColorPair) -> Appearance:
    """Draw everything but the colours of shirt and trousers, which are given."""
    hats: tuple[Hat | None, ...] = ("cap", "beanie", "brim", None, None, None, None)
    hat = pick(rng, hats)
    tint = rng.integers(-14, 15, 3).tolist()
    return Appearance(
        shirt=pair[0],
        bottom=pair[1],
        bottom_kind=pick(rng, ("trousers", "trousers", "shorts", "skirt")),
        sleeves=pick(rng, ("short", "short", "long", "long", "none")),
        hair=pick(rng, tuple(HAIR_COLORS)),
        hair_length=pick(rng, ("short", "short", "short", "long", "long", "bald")),
        hat=hat,
        hat_color=None if hat is None else pick(rng, HAT_COLORS),
        skin=pick(rng, SKIN_TONES),
        shoes=pick(rng, _SHOES),
        stripes=bool(rng.random() < 0.2),
        tint=(tint[0], tint[1], tint[2]),
    )


def shaded(color: Rgb, factor: float) -> Rgb:
    """A darker or lighter tone of a colour."""
    red, green, blue = (min(255, round(value * factor)) for value in color)
    return red, green, blue


def pick(rng: np.random.Generator, choices: Sequence[_Choice]) -> _Choice:
    """One of the choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]
