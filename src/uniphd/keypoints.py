"""Keypoint sets: which joints a pose has, and what flipping, drawing and measuring need of them.

To add a set, write its `KeypointSchema` here and put it into `SCHEMAS`; `keypoints=NAME` then
chooses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

from uniphd.errors import ConfigError

NamePair: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class KeypointSchema:
    """A set of K keypoints. Everything about a keypoint is said by its name.

    Attributes:
        name: of the set, which configurations and checkpoints give.
        names: of the K keypoints, in the order of every tensor.
        flip_pairs: keypoints that change places in a mirror image, each once.
        skeleton: pairs of keypoints that a line is drawn between.
        sigmas: standard deviation per keypoint of the object keypoint similarity (OKS).
        head_pair: keypoints whose distance is the head's size in PCKh; None for no PCKh.

    Raises:
        ConfigError: names are missing, repeated or unknown, a keypoint is in two pairs, or there
            are not K positive sigmas.
    """

    name: str
    names: tuple[str, ...]
    flip_pairs: tuple[NamePair, ...]
    skeleton: tuple[NamePair, ...]
    sigmas: tuple[float, ...]
    head_pair: NamePair | None = None

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ConfigError(f"{self} has no keypoints or one twice; give every one a name.")
        if len(self.sigmas) != len(self) or not all(sigma > 0 for sigma in self.sigmas):
            raise ConfigError(f"{self} needs {len(self)} sigmas above 0; give one per keypoint.")
        head_pairs = () if self.head_pair is None else (self.head_pair,)
        for start, end in (*self.flip_pairs, *self.skeleton, *head_pairs):
            unknown = [name for name in (start, end) if name not in self.names]
            if unknown or start == end:
                raise ConfigError(
                    f"{self} pairs {start} and {end}; name two different ones of its keypoints."
                )
        flipped = [name for pair in self.flip_pairs for name in pair]
        if twice := sorted({name for name in flipped if flipped.count(name) > 1}):
            raise ConfigError(f"{self} has {twice[0]} in two flip pairs; keep one.")

    def __len__(self) -> int:
        """K."""
        return len(self.names)

    def __str__(self) -> str:
        return f"the keypoint set {self.name} ({len(self)} keypoints)"

    @cached_property
    def flip_order(self) -> tuple[int, ...]:
        """(K,) whose place every keypoint takes in the mirror image; its own inverse."""
        partner = {name: other for a, b in self.flip_pairs for name, other in ((a, b), (b, a))}
        return tuple(self.names.index(partner.get(name, name)) for name in self.names)

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """The skeleton in places of keypoints, counted from 0."""
        return tuple(self._places(pair) for pair in self.skeleton)

    @cached_property
    def head(self) -> tuple[int, int] | None:
        """The places of the head pair."""
        return self.head_pair and self._places(self.head_pair)

    def _places(self, pair: NamePair) -> tuple[int, int]:
        return self.names.index(pair[0]), self.names.index(pair[1])


def keypoint_schema(name: str) -> KeypointSchema:
    """The keypoint set of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SCHEMAS:
        raise ConfigError(f"keypoints is '{str(name)[:80]}'; choose from {', '.join(SCHEMAS)}.")
    return SCHEMAS[name]


def _both_sides(names: tuple[str, ...]) -> tuple[NamePair, ...]:
    """All keypoints that are called left_ and right_, as pairs."""
    pairs = ((name, name.replace("left_", "right_", 1)) for name in names)
    return tuple(pair for pair in pairs if pair[0].startswith("left_"))


_LIMBS: tuple[NamePair, ...] = (
    ("left_ankle", "left_knee"), ("left_knee", "left_hip"),
    ("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
    ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"),
    ("right_shoulder", "right_elbow"), ("left_elbow", "left_wrist"),
    ("right_elbow", "right_wrist"),
)  # fmt: skip

_COCO_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip

COCO17 = KeypointSchema(
    name="coco",
    names=_COCO_NAMES,
    flip_pairs=_both_sides(_COCO_NAMES),
    skeleton=(
        *_LIMBS,
        *(("left_eye", "right_eye"), ("nose", "left_eye"), ("nose", "right_eye")),
        *(("left_eye", "left_ear"), ("right_eye", "right_ear")),
        *(("left_ear", "left_shoulder"), ("right_ear", "right_shoulder")),
    ),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062,
        0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    ),
    head_pair=("left_ear", "right_ear"),
)  # fmt: skip
"""COCO's person, as in RefHuman and the official release."""

_CROWDPOSE_NAMES = (*_COCO_NAMES[5:], "top_head", "neck")

CROWDPOSE14 = KeypointSchema(
    name="crowdpose",
    names=_CROWDPOSE_NAMES,
    flip_pairs=_both_sides(_CROWDPOSE_NAMES),
    skeleton=(
        *_LIMBS,
        *(("top_head", "neck"), ("right_shoulder", "neck"), ("left_shoulder", "neck")),
    ),
    sigmas=(
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
        0.079, 0.079,
    ),
)  # fmt: skip
"""CrowdPose (arXiv 1812.00324), whose evaluation has no PCKh."""

_FINGERS = tuple(
    f"{finger}{joint}"
    for finger in ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
    for joint in range(1, 5)
)
_WHOLEBODY_NAMES = (
    *_COCO_NAMES,
    *(f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")),
    *(f"face-{point}" for point in range(68)),
    *(f"{side}_{part}" for side in ("left", "right") for part in ("hand_root", *_FINGERS)),
)

# Points of the face that change places: start, end (exclusive) and what a point and its mirror
# image add up to. Chin, brows, nostrils, eyes (outer to inner, then below), mouth.
_FACE_MIRRORED = (
    (0, 8, 16), (17, 22, 43), (31, 33, 66), (36, 40, 81), (40, 42, 87), (48, 51, 102),
    (55, 57, 114), (60, 62, 124), (65, 66, 132),
)  # fmt: skip

COCO_WHOLEBODY133 = KeypointSchema(
    name="coco_wholebody",
    names=_WHOLEBODY_NAMES,
    flip_pairs=(
        *_both_sides(_WHOLEBODY_NAMES),
        *(
            (f"face-{point}", f"face-{total - point}")
            for start, end, total in _FACE_MIRRORED
            for point in range(start, end)
        ),
    ),
    skeleton=(
        *COCO17.skeleton,
        *(
            (f"{side}_ankle", f"{side}_{part}")
            for side in ("left", "right")
            for part in ("big_toe", "small_toe", "heel")
        ),
        *(
            (f"{side}_{start}", f"{side}_{end}")
            for side in ("left", "right")
            for first in range(0, len(_FINGERS), 4)
            for start, end in pairwise(("wrist", *_FINGERS[first : first + 4]))
        ),
    ),
    sigmas=(
        *COCO17.sigmas,
        *(0.068, 0.066, 0.066, 0.092, 0.094, 0.094),
        *(0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032),
        *(0.037, 0.038, 0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011),
        *(0.011, 0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010),
        *(0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034),
        *(0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007),
        *(0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.010, 0.008),
        *2 * (
            0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022,
            0.026, 0.017, 0.021, 0.021, 0.032, 0.020, 0.019, 0.022, 0.031,
        ),
    ),
    head_pair=COCO17.head_pair,
)  # fmt: skip
"""COCO-WholeBody (arXiv 2007.11858): body, feet, face and hands in one list."""

SCHEMAS: Mapping[str, KeypointSchema] = {
    schema.name: schema for schema in (COCO17, CROWDPOSE14, COCO_WHOLEBODY133)
}
"""The known keypoint sets by name."""
