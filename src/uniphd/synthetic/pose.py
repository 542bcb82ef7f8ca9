"""Poses: distributions of limb directions, and the joints in space that follow from them.

The body's axes: x to the person's left, y down, z to where the person faces; the person's height
is 1. A limb that hangs down points along y; flexion lifts it to the front, abduction to its side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from uniphd.synthetic.appearance import pick

Points: TypeAlias = npt.NDArray[np.float64]
_Range: TypeAlias = tuple[float, float]
_Limb: TypeAlias = tuple[_Range, _Range]  # abduction and flexion in degrees

SEGMENTS = ("upper_arm", "forearm", "thigh", "shin")
SIDES = ("left", "right")
PAIRS = ("shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "toes")
_COCO_PAIRS = [0, 1, 2, 4, 5, 6]  # COCO has neither hands nor toes
_SIGNS = (1.0, -1.0)  # the left side lies at positive x

_ARM: dict[str, _Limb] = {"upper_arm": ((5, 22), (-15, 20)), "forearm": ((-2, 16), (0, 45))}
_LEG: dict[str, _Limb] = {"thigh": ((1, 9), (-5, 8)), "shin": ((-1, 5), (-12, 2))}
_SEATED: dict[str, _Limb] = {"thigh": ((4, 16), (72, 88)), "shin": ((0, 8), (-12, 10))}
_REST: dict[str, _Limb] = {**_ARM, **_LEG}

# Per pose: the limbs of the active side and of the other one where they differ from rest.
_POSES: dict[str, tuple[dict[str, _Limb], dict[str, _Limb]]] = {
    "standing": ({}, {}),
    "walking": (
        {
            "upper_arm": ((4, 12), (-40, -20)),
            "forearm": ((0, 10), (-15, 15)),
            "thigh": ((0, 5), (20, 36)),
            "shin": ((0, 4), (6, 20)),
        },
        {
            "upper_arm": ((4, 12), (22, 42)),
            "forearm": ((0, 10), (45, 80)),
            "thigh": ((0, 5), (-28, -14)),
            "shin": ((0, 4), (-60, -30)),
        },
    ),
    "arms up": (
        {"upper_arm": ((140, 172), (-10, 20)), "forearm": ((150, 186), (-10, 20))},
        {"upper_arm": ((140, 172), (-10, 20)), "forearm": ((150, 186), (-10, 20))},
    ),
    "waving": ({"upper_arm": ((112, 165), (-10, 25)), "forearm": ((140, 200), (-10, 20))}, {}),
    "arms spread": (
        {"upper_arm": ((74, 100), (-10, 10)), "forearm": ((74, 104), (-10, 10))},
        {"upper_arm": ((74, 100), (-10, 10)), "forearm": ((74, 104), (-10, 10))},
    ),
    "hands on hips": (
        {"upper_arm": ((38, 52), (-20, 0)), "forearm": ((-50, -36), (10, 30))},
        {"upper_arm": ((38, 52), (-20, 0)), "forearm": ((-50, -36), (10, 30))},
    ),
    "sitting": (
        {"forearm": ((-5, 10), (30, 80)), **_SEATED},
        {"forearm": ((-5, 10), (30, 80)), **_SEATED},
    ),
    "kicking": (
        {
            "upper_arm": ((15, 50), (-45, -10)),
            "thigh": ((0, 8), (58, 88)),
            "shin": ((0, 6), (40, 80)),
        },
        {"upper_arm": ((20, 60), (10, 40))},
    ),
}  # fmt: skip
POSES = tuple(_POSES)


def _ranges(sides: tuple[dict[str, _Limb], dict[str, _Limb]]) -> Points:
    """Radians (side, segment, angle, low or high), rest included."""
    degrees = [[{**_REST, **side}[segment] for segment in SEGMENTS] for side in sides]
    return np.radians(degrees)


_RANGES = {pose: _ranges(sides) for pose, sides in _POSES.items()}

# Where a person may face, degrees from the camera: a walk seen from the front looks like standing,
# arms spread seen from the side like hanging ones. One person in twelve is seen from behind.
_FRONT, _BACK = (-38.0, 38.0), (146.0, 214.0)
_LEFT, _RIGHT = (48.0, 118.0), (-118.0, -48.0)
_ANY = (*[_FRONT] * 5, _BACK, _LEFT, _RIGHT)
_FACING: dict[str, tuple[_Range, ...]] = {
    "walking": (_LEFT, _RIGHT),
    "kicking": (_LEFT, _RIGHT),
    "sitting": (_FRONT, _LEFT, _RIGHT),
    "arms spread": (*[_FRONT] * 7, _BACK),
    "hands on hips": (*[_FRONT] * 7, _BACK),
}


# Nose, eyes and ears around the middle of a head that faces along z, over half of its height.
_FACE = np.array(
    [
        (0.0, 0.16, 0.80),
        (0.32, -0.10, 0.66),
        (-0.32, -0.10, 0.66),
        (0.76, 0.04, 0.0),
        (-0.76, 0.04, 0.0),
    ]
)


@dataclass(frozen=True)
class Proportions:
    """Lengths over the person's height; the means follow the artist's canon of 7 heads.

    Attributes:
        head: half of the head's height.
        neck: from the shoulder line to the head.
        torso: from the hips to the shoulder line.
        limbs: of upper arm, forearm, thigh, shin.
        hand: from the wrist to the middle of the hand.
        foot: from the ankle to the toes.
        shoulder: half of the distance of the shoulders.
        hip: half of the distance of the hips.
        build: factor of all widths.
    """

    head: float
    neck: float
    torso: float
    limbs: tuple[float, float, float, float]
    hand: float
    foot: float
    shoulder: float
    hip: float
    build: float


@dataclass(frozen=True)
class Skeleton:
    """Joints in the camera's axes: x to the right, y down, z to the camera; height 1.

    Attributes:
        pelvis: (3,) between the hips.
        chest: (3,) between the shoulders.
        head: (3,) middle of the head.
        pairs: (8, 2, 3) left and right shoulder, elbow, wrist, hand, hip, knee, ankle, toes.
        face: (5, 3) nose, left eye, right eye, left ear, right ear.
        facing: degrees from the camera to the person's front; 90 faces the image's right.
        looking: the same of the head.
    """

    pelvis: Points
    chest: Points
    head: Points
    pairs: Points
    face: Points
    facing: float
    looking: float

    def pair(self, name: str) -> Points:
        """(2, 3) the left and the right one of `PAIRS`."""
        pair: Points = self.pairs[PAIRS.index(name)]
        return pair

    @property
    def keypoints(self) -> Points:
        """(K, 3) in COCO's order."""
        return np.concatenate([self.face, self.pairs[_COCO_PAIRS].reshape(-1, 3)])


def sample_proportions(rng: np.random.Generator) -> Proportions:
    """Draw a body."""
    vary = rng.uniform(0.93, 1.07, 6)
    return Proportions(
        head=0.078 * rng.uniform(0.92, 1.12),
        neck=0.035,
        torso=0.285 * vary[0],
        limbs=(0.175 * vary[1], 0.155 * vary[1], 0.235 * vary[2], 0.23 * vary[2]),
        hand=0.035,
        foot=0.095,
        shoulder=0.112 * vary[3],
        hip=0.062 * vary[4],
        build=float(rng.uniform(0.95, 1.3)),
    )


def sample_skeleton(rng: np.random.Generator, pose: str, body: Proportions) -> Skeleton:
    """Draw limb directions and a facing for a pose, and place the joints.

    Args:
        rng: of every random number.
        pose: one of `POSES`.
        body: the lengths.
    """
    directions = _sample_directions(rng, pose)
    facing = float(rng.uniform(*pick(rng, _FACING.get(pose, _ANY))))
    looking = facing + float(rng.uniform(-25, 25))
    pitch = float(rng.uniform(6, 16))  # the camera looks down on the scene a little
    side_lean, forward_lean = np.radians(rng.uniform((-5, -2), (5, 8)))
    up = np.array(
        [
            np.sin(side_lean) * np.cos(forward_lean),
            -np.cos(side_lean) * np.cos(forward_lean),
            np.sin(forward_lean),
        ]
    )
    across = np.array([np.cos(side_lean), np.sin(side_lean), 0.0])
    signs = np.array(_SIGNS)[:, None]
    chest = body.torso * up
    shoulders = chest + signs * body.shoulder * across
    hips = signs * np.array([body.hip, 0.0, 0.0])
    limbs = directions * np.array(body.limbs)[:, None]  # (2, 4, 3)
    elbows = shoulders + limbs[:, 0]
    knees = hips + limbs[:, 2]
    wrists, ankles = elbows + limbs[:, 1], knees + limbs[:, 3]
    hands = wrists + directions[:, 1] * body.hand
    toes = ankles + np.array([0.0, 0.3, 1.0]) * body.foot * 0.95 + signs * (0.02, 0.0, 0.0)
    head = chest + up * (body.neck + body.head)
    joints = [shoulders, elbows, wrists, hands, hips, knees, ankles, toes]
    centre = np.stack([np.zeros(3), chest, head])
    turned = _turn(np.concatenate([centre, *joints]), facing, pitch)
    face = turned[2] + _turn(body.head * _FACE, looking, pitch)
    pairs = turned[3:].reshape(8, 2, 3)
    return Skeleton(turned[0], turned[1], turned[2], pairs, face, facing, looking)


def _sample_directions(rng: np.random.Generator, pose: str) -> Points:
    """Unit vectors (2, 4, 3) of the limbs of the left and the right side."""
    ranges = _RANGES[pose]
    angles = rng.uniform(ranges[..., 0], ranges[..., 1])
    if rng.random() < 0.5:
        angles = angles[::-1]
    abduction, flexion = angles[..., 0], angles[..., 1]
    signs = np.array(_SIGNS)[:, None]
    return np.stack(
        [
            signs * np.sin(abduction) * np.cos(flexion),
            np.cos(abduction) * np.cos(flexion),
            np.sin(flexion),
        ],
        axis=-1,
    )


def _turn(points: Points, facing: float, pitch: float) -> Points:
    """Body axes (n, 3) to camera axes: turned about the vertical, then seen from a little above."""
    (sin, cos), (sin_pitch, cos_pitch) = (
        (np.sin(angle), np.cos(angle)) for angle in np.radians((facing, pitch))
    )
    x = points[:, 0] * cos + points[:, 2] * sin
    z = points[:, 2] * cos - points[:, 0] * sin
    return np.stack([x, points[:, 1] * cos_pitch + z * sin_pitch, z], axis=-1)
