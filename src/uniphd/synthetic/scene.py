"""One synthetic image: people that can all be seen and told apart, with their annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uniphd.errors import ConfigError
from uniphd.structures import Size
from uniphd.synthetic.background import draw_background
from uniphd.synthetic.captions import Caption, write_captions, write_pair_captions
from uniphd.synthetic.joints import locate_joints
from uniphd.synthetic.layers import REGIONS, Stage, perform
from uniphd.synthetic.layout import SPLITS, Actor, Split, sample_cast
from uniphd.synthetic.lighting import cast_shadows, expose
from uniphd.synthetic.predicates import Traits

MAX_PEOPLE = 8
SMALLEST_SIDE = 64

_ATTEMPTS = 1000
_LEAST_SHARE = 0.35  # of a person's pixels, those outside of the image included
_LEAST_PIXELS = 60  # in an image of _REFERENCE pixels, as all numbers of pixels here
_REFERENCE = 128 * 128
# Share and pixels of a garment that must show before a caption may mention it.
_GARMENTS = {"shirt": (0.35, 22), "bottom": (0.35, 22), "hat": (0.6, 10), "hair": (0.5, 9)}
_ARMS, _LEGS = slice(7, 11), slice(13, 17)  # keypoints: elbows and wrists, knees and ankles


@dataclass(frozen=True)
class World:
    """What every scene depends on besides its split and number.

    Attributes:
        seed: of everything that is random, 0 or above.
        size: (height, width) of the images.
        people: smallest and largest number of people per image.

    Raises:
        ConfigError: a value that cannot be drawn.
    """

    seed: int = 0
    size: Size = (128, 128)
    people: tuple[int, int] = (2, 4)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"The seed is {self.seed}; give a number of at least 0.")
        if min(self.size) < SMALLEST_SIDE:
            raise ConfigError(
                f"Images of {self.size[1]} x {self.size[0]} pixels are too small for people; "
                f"give sides of at least {SMALLEST_SIDE}."
            )
        if not 2 <= self.people[0] <= self.people[1] <= MAX_PEOPLE:
            raise ConfigError(
                f"{self.people[0]} to {self.people[1]} people per image cannot be drawn; give "
                f"two numbers from 2 to {MAX_PEOPLE}, the smaller one first."
            )


@dataclass(frozen=True, eq=False)
class Person:
    """One person of a scene.

    Attributes:
        traits: what captions can be about.
        captions: sentences that are true of this person alone.
        keypoints: (17, 3) float32 x, y, v in COCO's meaning; 0, 0, 0 outside of the image.
        mask: (h, w) bool, the visible pixels.
        referred: whether the split asks for this person.
    """

    traits: Traits
    captions: tuple[Caption, ...]
    keypoints: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    referred: bool


@dataclass(frozen=True, eq=False)
class SyntheticScene:
    """One image and everybody in it.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        people: the farthest first.
        stage: which subpixel shows whom and what.
    """

    image: npt.NDArray[np.uint8]
    people: tuple[Person, ...]
    stage: Stage


def draw_scene(world: World, split: Split, index: int) -> SyntheticScene:
    """Draw a scene; the same arguments give the same scene.

    A cast in which somebody is hidden or cannot be told apart is drawn anew.

    Args:
        world: seed, size and number of people.
        split: which of the four sets.
        index: number of the scene in its set.

    Raises:
        ConfigError: so many people do not fit into the image.
    """
    rng = np.random.default_rng((world.seed, SPLITS.index(split), index))
    for _ in range(_ATTEMPTS):
        actors = sample_cast(rng, world.size, world.people, split)
        stage = perform(actors, world.size)
        people = _annotate(rng, stage, actors, split)
        if people:
            background = cast_shadows(draw_background(rng, world.size), actors)
            image = expose(rng, stage.over(background), world.size)
            return SyntheticScene(image, people, stage)
    raise ConfigError(
        f"{world.people[1]} people do not fit into {world.size[1]} x {world.size[0]} pixels; give "
        "a larger size or fewer people."
    )


def _annotate(
    rng: np.random.Generator, stage: Stage, actors: Sequence[Actor], split: Split
) -> tuple[Person, ...]:
    """Everybody's annotations, or nothing where somebody does not show or has no captions."""
    shown = stage.shown()
    unit = stage.labels.size / _REFERENCE  # subpixels per pixel of an image of that size
    share = shown.sum(1) / stage.drawn.sum(1)
    if share.min() < _LEAST_SHARE or shown.sum(1).min() < _LEAST_PIXELS * unit:
        return ()
    masks = stage.masks()
    keypoints = [locate_joints(stage, actor, number) for number, actor in enumerate(actors, 1)]
    garments = np.stack([shown / np.maximum(stage.drawn, 1), shown / unit], axis=-1)
    traits = [
        Traits(
            look=actor.look,
            pose=actor.pose,
            facing=abs((actor.skeleton.facing + 180) % 360 - 180),
            depth=actor.depth,
            x=float((np.flatnonzero(mask) % mask.shape[1]).mean() + 0.5) / mask.shape[1],
            visible=_visible(actor.pose, garments[number], keypoints[number]),
        )
        for number, (actor, mask) in enumerate(zip(actors, masks, strict=True))
    ]
    people = []
    for number, actor in enumerate(actors):
        in_pair_split = split in ("val_seen_pairs", "val_unseen")
        write = write_pair_captions if in_pair_split and actor.referred else write_captions
        captions = write(rng, traits, number)
        if not captions:
            return ()
        people.append(
            Person(traits[number], captions, keypoints[number], masks[number], actor.referred)
        )
    return tuple(people)


def _visible(
    pose: str, garments: npt.NDArray[np.float64], keypoints: npt.NDArray[np.float32]
) -> frozenset[str]:
    """What shows clearly enough to be mentioned.

    Args:
        pose: its name.
        garments: (regions, 2) share and number of pixels that show.
        keypoints: (17, 3); a pose shows where at least three of four joints of its limbs do.
    """
    visible = {
        name for name, least in _GARMENTS.items() if (garments[REGIONS.index(name)] >= least).all()
    }
    limbs = _LEGS if pose in ("walking", "sitting", "kicking") else _ARMS
    if (keypoints[limbs, 2] == 2).sum() >= 3:
        visible.add("pose")
    return frozenset(visible)
