"""Who stands where: appearances, poses, depths and places of a scene's people, before drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from uniphd.structures import Size
from uniphd.synthetic.appearance import (
    HELD_OUT,
    SEEN_PAIRS,
    Appearance,
    ColorPair,
    pick,
    sample_appearance,
)
from uniphd.synthetic.pose import (
    POSES,
    Points,
    Proportions,
    Skeleton,
    sample_proportions,
    sample_skeleton,
)

Split: TypeAlias = Literal["train", "val", "val_seen_pairs", "val_unseen"]
SPLITS: tuple[Split, ...] = get_args(Split)

_SHARED_COLOR = 0.4  # how often somebody wears a colour of another person: only both colours tell
_POSE_WEIGHTS = {"standing": 3}  # the others count once

# From the farthest (depth 0) to the nearest (1), over the image's height.
_HEIGHTS, _FEET = (0.5, 0.9), (0.76, 1.0)
_WIDEST = 1.3  # in a portrait people are measured by its width


@dataclass(frozen=True)
class PersonInstance:
    """A person to draw.

    Attributes:
        appearance: clothes, hair and skin.
        pose: name of the pose.
        body: proportions.
        skeleton: joints in units of the person's height.
        depth: 0 is far, 1 is near.
        height: of the upright person, pixels.
        origin: (2,) the pixel at the skeleton's origin.
        referred: whether the split asks for this person: everybody, but in the splits of colour
            pairs one alone.
    """

    appearance: Appearance
    pose: str
    body: Proportions
    skeleton: Skeleton
    depth: float
    height: float
    origin: Points
    referred: bool

    def place(self, points: Points) -> Points:
        """Points (..., 2) in units of the person's height, in pixels of the image."""
        placed: Points = self.origin + self.height * points
        return placed


def sample_layout(
    rng: np.random.Generator, size: Size, people: tuple[int, int], split: Split
) -> list[PersonInstance]:
    """Draw a scene's people, the farthest first.

    Args:
        rng: of every random number.
        size: (height, width) of the image.
        people: smallest and largest number of people.
        split: decides about the colours.
    """
    number = int(rng.integers(people[0], people[1] + 1))
    pairs = sample_pairs(rng, number, split)
    everybody = split in ("train", "val")
    zoom = float(rng.uniform(0.85, 1.12))
    depths = np.sort(rng.uniform(0, 1, number)).tolist()
    columns = ((rng.permutation(number) + rng.uniform(-0.1, 1.1, number)) / number).tolist()
    order = rng.permutation(number).tolist()
    return [
        _sample_instance(rng, size, pairs[place], depth, column, zoom, everybody or place == 0)
        for place, depth, column in zip(order, depths, columns, strict=True)
    ]


def sample_pairs(rng: np.random.Generator, number: int, split: Split) -> list[ColorPair]:
    """Colours of shirt and bottom of every person; in a split of pairs the referred one is first.

    There two others share a colour each with that person, one the shirt's and one the bottom's (of
    two people in all, one of them), so that only both colours together tell who is referred to.
    """
    if split in ("train", "val"):
        pairs = [pick(rng, SEEN_PAIRS)]
        while len(pairs) < number:
            share = rng.random() < _SHARED_COLOR
            pairs.append(_sharing(rng, pick(rng, pairs)) if share else pick(rng, SEEN_PAIRS))
        return pairs
    referred = pick(rng, sorted(HELD_OUT) if split == "val_unseen" else SEEN_PAIRS)
    shirt_first = int(rng.random() < 0.5)
    pairs = [referred]
    while len(pairs) < number:
        if len(pairs) <= 2:
            pair = _sharing(rng, referred, garment=(len(pairs) + shirt_first) % 2)
        else:
            pair = pick(rng, [seen for seen in SEEN_PAIRS if seen != referred])
        pairs.append(pair)
    return pairs


def _sharing(rng: np.random.Generator, pair: ColorPair, garment: int | None = None) -> ColorPair:
    """A pair that occurs in training and has the same shirt (0) or bottom (1), but not both."""
    if garment is None:
        garment = int(rng.integers(2))
    candidates = [
        seen
        for seen in SEEN_PAIRS
        if seen[garment] == pair[garment] and seen[1 - garment] != pair[1 - garment]
    ]
    return pick(rng, candidates)


def _sample_instance(
    rng: np.random.Generator,
    size: Size,
    pair: ColorPair,
    depth: float,
    column: float,
    zoom: float,
    referred: bool,
) -> PersonInstance:
    height, width = size
    names = [name for name in POSES for _ in range(_POSE_WEIGHTS.get(name, 1))]
    pose = pick(rng, names)
    appearance = sample_appearance(rng, pair)
    body = sample_proportions(rng)
    skeleton = sample_skeleton(rng, pose, body)
    tall = min(height, _WIDEST * width) * float(np.interp(depth, (0, 1), _HEIGHTS)) * zoom
    tall *= float(rng.uniform(0.92, 1.08))
    feet = height * (0.5 + zoom * (float(np.interp(depth, (0, 1), _FEET)) - 0.5))
    ground = (
        float(max(skeleton.pair("toes")[:, 1].max(), skeleton.pair("ankle")[:, 1].max())) + 0.02
    )
    x = width * (0.1 + 0.8 * column)
    origin = np.array([x, feet - ground * tall])
    return PersonInstance(appearance, pose, body, skeleton, depth, tall, origin, referred)
