"""Preprocessing: what happens to an image and its annotation before the network sees them.

Every number comes from RefHuman's official release, which follows DETR. Random numbers come only
from the generator in the call, so that a draw depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Protocol

from uniphd.data.sample import AnnotatedImage, AnnotatedPerson, crop, flip, resize, resized_size
from uniphd.errors import ConfigError
from uniphd.prompts.sides import mirror_caption
from uniphd.structures import Size

_CROP_ATTEMPTS = 10

# Pixels of the longer side before a crop: no image comes near, and a panorama of 3,000 to 1
# would otherwise be enlarged to a billion pixels.
_LONGEST_BEFORE_CROP = 8_192


class Transform(Protocol):
    """A change of an image and its people with random numbers from `random`."""

    def __call__(self, annotated: AnnotatedImage, random: Random) -> AnnotatedImage:
        """Return the changed image with its people."""
        ...


class Resize(Transform, Protocol):
    """A transform whose result has a size that is known before the image is read."""

    def output_size(self, size: Size) -> Size:
        """(height, width) of what becomes of an image of `size`."""
        ...


class EvaluationTransform:
    """Resize so that the shorter side is `size` unless the longer side would exceed `max_size`.

    Args:
        size: wanted shorter side, pixels.
        max_size: limit of the longer side, pixels.

    Attributes:
        flip_probability: 0; nothing is mirrored.

    Raises:
        ConfigError: a number is below 1.
    """

    flip_probability = 0.0

    def __init__(self, size: int = 640, max_size: int = 640) -> None:
        if min(size, max_size) < 1:
            raise ConfigError(
                f"data.eval_transform has size={size} and max_size={max_size}; give at least 1."
            )
        self.size = size
        self.max_size = max_size

    def __call__(self, annotated: AnnotatedImage, random: Random) -> AnnotatedImage:
        """Resize; nothing is random here."""
        return resize(annotated, self.output_size(annotated.size))

    def output_size(self, size: Size) -> Size:
        """(height, width) of what becomes of an image of `size`."""
        return resized_size(size, self.size, self.max_size)


class TrainingTransform:
    """Random flip, then a random resize, every second time after a random crop.

    A crop that loses one of the image's people is drawn again, after ten failures left out, so that
    everybody stays in the batch: on COCO images, 1 of 40 crops is left out with two people and 1 of
    18 with four. (The official release has one person per image and draws another one instead.)

    Args:
        scales: shorter sides of the final resize, one drawn at random.
        max_size: limit of the longer side, pixels.
        flip_probability: how often the image is mirrored.
        crop_probability: how often it is cropped.
        crop_scales: shorter sides of the resize before a crop, one drawn at random.
        crop_size: smallest and largest side of the crop, each side drawn for itself.

    Raises:
        ConfigError: a probability outside of [0, 1], no scale, or a crop range that is empty.
    """

    def __init__(
        self,
        scales: Sequence[int] = (360, 392, 416, 480, 512, 544, 576, 608, 640),
        max_size: int = 640,
        flip_probability: float = 0.5,
        crop_probability: float = 0.5,
        crop_scales: Sequence[int] = (400, 500, 600),
        crop_size: Sequence[int] = (384, 600),
    ) -> None:
        if not (0 <= flip_probability <= 1 and 0 <= crop_probability <= 1):
            raise ConfigError("A probability of the training transform is outside of [0, 1].")
        if min(len(scales), len(crop_scales)) == 0 or min(*scales, *crop_scales) < 1:
            raise ConfigError("The training transform needs scales and crop_scales above 0.")
        if len(crop_size) != 2 or not 1 <= crop_size[0] <= crop_size[1]:
            raise ConfigError(f"crop_size is {list(crop_size)}; give [smallest, largest].")
        self.scales = tuple(scales)
        self.max_size = max_size
        self.flip_probability = flip_probability
        self.crop_probability = crop_probability
        self.crop_scales = tuple(crop_scales)
        self.crop_size = (crop_size[0], crop_size[1])

    def __call__(self, annotated: AnnotatedImage, random: Random) -> AnnotatedImage:
        """Draw and apply one augmentation, the same for all people of the image."""
        if random.random() < self.flip_probability:
            flipped = flip(annotated)
            annotated = replace(flipped, people=tuple(map(_mirror_captions, flipped.people)))
        if random.random() < self.crop_probability:
            annotated = self._crop(annotated, random)
        shorter_side = random.choice(self.scales)
        return resize(annotated, resized_size(annotated.size, shorter_side, self.max_size))

    def _crop(self, annotated: AnnotatedImage, random: Random) -> AnnotatedImage:
        """Resize and cut out a random window that shows every person."""
        shorter_side = random.choice(self.crop_scales)
        scaled = resize(annotated, resized_size(annotated.size, shorter_side, _LONGEST_BEFORE_CROP))
        for _ in range(_CROP_ATTEMPTS):
            width = self._side(scaled.image.width, random)
            height = self._side(scaled.image.height, random)
            top = random.randint(0, scaled.image.height - height)
            left = random.randint(0, scaled.image.width - width)
            window = crop(scaled, top, left, (height, width))
            if window is not None:
                return window
        return annotated

    def _side(self, available: int, random: Random) -> int:
        smallest, largest = self.crop_size
        return random.randint(min(smallest, available), min(largest, available))


def _mirror_captions(person: AnnotatedPerson) -> AnnotatedPerson:
    return replace(
        person,
        caption=mirror_caption(person.caption),
        other_captions=tuple(map(mirror_caption, person.other_captions)),
    )
