"""One synthetic image: people that can all be seen and told apart, with their annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uniphd.errors import ConfigError
from uniphd.keypoints import COCO17
from uniphd.structures import Size
from uniphd.synthetic.background import render_background
from uniphd.synthetic.captions import Caption, write_captions, write_pair_captions
from uniphd.synthetic.joints import locate_joints
from uniphd.synthetic.layers import REGIONS, Layers, rasterize
from uniphd.synthetic.layout import SPLITS, PersonInstance, Split, sample_layout
from uniphd.synthetic.lighting import add_shadows, apply_lighting
from uniphd.synthetic.predicates import Traits

MAX_PEOPLE = 8
SMALLEST_SIDE = 64

_ATTEMPTS = 1000
_LEAST_SHARE = 0.35  # of a person's pixels, those outside of the image included
_LEAST_PIXELS = 60  # in an image of _REFERENCE pixels, as all numbers of pixels here
_REFERENCE = 128 * 128
# Share and pixels of a garment that must show before a caption may mention it.
_GARMENTS = {"shirt": (0.35, 22), "bottom": (0.35, 22), "hat": (0.6, 10), "hair": (0.5, 9)}
_ARMS, _LEGS = (
    [COCO17.names.index(f"{side}_{joint}") for joint in joints for side in ("left", "right")]
    for joints in (("elbow", "wrist"), ("knee", "ankle"))
)


@dataclass(frozen=True)
class SceneConfig:
    """What every scene depends on besides its split and index.

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
        captions: texts that are true of this person alone.
        keypoints: (K, 3) float32 x, y, v in COCO's meaning; 0, 0, 0 outside of the image.
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
        layers: which subpixel shows whom and what.
    """

    image: npt.NDArray[np.uint8]
    people: tuple[Person, ...]
    layers: Layers


def render_scene(config: SceneConfig, split: Split, index: int) -> SyntheticScene:
    """Draw a scene; the same arguments give the same scene.

    A layout in which somebody is hidden or cannot be told apart is drawn anew.

    Args:
        config: seed, size and number of people.
        split: which of the four sets.
        index: number of the scene in its set.

    Raises:
        ConfigError: so many people do not fit into the image.
    """
    rng = np.random.default_rng((config.seed, SPLITS.index(split), index))
    for _ in range(_ATTEMPTS):
        instances = sample_layout(rng, config.size, config.people, split)
        layers = rasterize(instances, config.size)
        people = _annotate_people(rng, layers, instances, split)
        if people:
            background = add_shadows(render_background(rng, config.size), instances)
            image = apply_lighting(rng, layers.over(background), config.size)
            return SyntheticScene(image, people, layers)
    raise ConfigError(
        f"{config.people[1]} people do not fit into {config.size[1]} x {config.size[0]} pixels; "
        "give a larger size or fewer people."
    )


def _annotate_people(
    rng: np.random.Generator, layers: Layers, instances: Sequence[PersonInstance], split: Split
) -> tuple[Person, ...]:
    """Everybody's annotations, or nothing where somebody does not show or has no captions."""
    shown = layers.shown()
    unit = layers.labels.size / _REFERENCE  # subpixels per pixel of an image of that size
    share = shown.sum(1) / layers.drawn.sum(1)
    if share.min() < _LEAST_SHARE or shown.sum(1).min() < _LEAST_PIXELS * unit:
        return ()
    masks = layers.masks()
    keypoints = [
        locate_joints(layers, instance, number) for number, instance in enumerate(instances, 1)
    ]
    garments = np.stack([shown / np.maximum(layers.drawn, 1), shown / unit], axis=-1)
    traits = [
        Traits(
            appearance=instance.appearance,
            pose=instance.pose,
            facing=abs((instance.skeleton.facing + 180) % 360 - 180),
            depth=instance.depth,
            x=float((np.flatnonzero(mask) % mask.shape[1]).mean() + 0.5) / mask.shape[1],
            visible=_visible(instance.pose, garments[number], keypoints[number]),
        )
        for number, (instance, mask) in enumerate(zip(instances, masks, strict=True))
    ]
    people = []
    for number, instance in enumerate(instances):
        in_pair_split = split in ("val_seen_pairs", "val_unseen")
        write = write_pair_captions if in_pair_split and instance.referred else write_captions
        captions = write(rng, traits, number)
        if not captions:
            return ()
        people.append(
            Person(traits[number], captions, keypoints[number], masks[number], instance.referred)
        )
    return tuple(people)


def _visible(
    pose: str, garments: npt.NDArray[np.float64], keypoints: npt.NDArray[np.float32]
) -> frozenset[str]:
    """What shows clearly enough to be mentioned.

    Args:
        pose: its name.
        garments: (regions, 2) share and number of pixels that show.
        keypoints: (K, 3); a pose shows where at least three of four joints of its limbs do.
    """
    visible = {
        name for name, least in _GARMENTS.items() if (garments[REGIONS.index(name)] >= least).all()
    }
    limbs = _LEGS if pose in ("walking", "sitting", "kicking") else _ARMS
    if (keypoints[limbs, 2] == 2).sum() >= 3:
        visible.add("pose")
    return frozenset(visible)
