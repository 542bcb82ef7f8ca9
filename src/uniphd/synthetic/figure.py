"""A dressed body as a list of flat shapes, ordered from the farthest to the nearest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from uniphd.synthetic.appearance import COLORS, Appearance, Rgb, shaded
from uniphd.synthetic.head import head_shapes
from uniphd.synthetic.pose import SIDES, Points, Proportions, Skeleton
from uniphd.synthetic.shapes import Shape, capsules

_Half: TypeAlias = Literal[0, 1]

# Half widths over the person's height, at the start and the end of a limb.
_UPPER_ARM, _FOREARM, _HAND = (0.034, 0.028), (0.027, 0.020), (0.022, 0.020)
_THIGH, _SHIN, _FOOT = (0.052, 0.040), (0.039, 0.025), (0.027, 0.022)
_NECK = (0.028, 0.030)
_TORSO_DEPTH = 0.062  # half of the trunk seen from the side
_SLEEVE_END = {"none": 0.0, "short": 0.62, "long": 1.0}
_WOOD: Rgb = (118, 90, 66)
_FAR_SHADE, _FAR = 0.8, -0.035  # limbs behind the body's middle are darker


@dataclass(frozen=True)
class _Trunk:
    """The trunk's outline: its axis on the image and its half widths.

    Attributes:
        hip: (2,) lower end of the axis.
        axis: (2,) from there to the shoulder line.
        normal: (2,) unit vector across.
        widths: half widths at the shoulders, the waist and the hips.
    """

    hip: Points
    axis: Points
    normal: Points
    widths: tuple[float, float, float]

    def at(self, height: float, across: float) -> Points:
        """(2,) the point at a share of the axis and a distance across it."""
        point: Points = self.hip + height * self.axis + across * self.normal
        return point


def figure_shapes(
    skeleton: Skeleton, body: Proportions, appearance: Appearance, seated: bool = False
) -> list[Shape]:
    """The shapes of a person, farthest first, in units of the person's height.

    Args:
        skeleton: where the joints are.
        body: proportions; its `build` widens everything.
        appearance: colours and clothes.
        seated: whether to draw a seat, which is no part of the person.
    """
    trunk = _trunk(skeleton, body)
    shapes = [
        *_trunk_shapes(trunk, appearance, body),
        *_limbs(skeleton, body, appearance),
        *head_shapes(skeleton, body, appearance),
    ]
    if appearance.bottom_kind == "skirt":
        shapes.append(_skirt(skeleton, trunk, appearance, body))
    if seated:
        shapes.append(_seat(skeleton, body))
    return sorted(shapes, key=lambda shape: shape.depth)


def cloth(appearance: Appearance, name: str) -> Rgb:
    """The colour of a garment: the palette's, with this person's tint."""
    red, green, blue = (
        min(255, max(0, value + change))
        for value, change in zip(COLORS[name], appearance.tint, strict=True)
    )
    return red, green, blue


def _trunk(skeleton: Skeleton, body: Proportions) -> _Trunk:
    axis = (skeleton.chest - skeleton.pelvis)[:2]
    normal = np.array([-axis[1], axis[0]]) / np.hypot(*axis)
    angle = np.radians(skeleton.facing)
    breadth, depth = abs(np.cos(angle)), abs(np.sin(angle)) * _TORSO_DEPTH * body.build

    def seen(half_width: float) -> float:
        return float(np.hypot(half_width * breadth, depth))

    fat = body.build - 1
    widths = (
        seen(body.shoulder + 0.012),
        seen(body.shoulder * 0.78 + 0.06 * fat),
        seen(body.hip + 0.034 * body.build),
    )
    return _Trunk(skeleton.pelvis[:2], axis, normal, widths)


def _trunk_shapes(trunk: _Trunk, appearance: Appearance, body: Proportions) -> Iterator[Shape]:
    """Neck hole to waist in the shirt's colour, the waist to the crotch in the other one."""
    shoulder, waist, hip = trunk.widths
    shirt, bottom = cloth(appearance, appearance.shirt), cloth(appearance, appearance.bottom)
    outline = [
        (1.06, 0.34 * shoulder),
        (1.0, 0.86 * shoulder),
        (0.93, shoulder),
        (0.72, 0.5 * (shoulder + waist)),
        (0.35, waist),
        (0.08, hip),
    ]
    yield Shape("torso", "shirt", _both_sides(trunk, outline), shirt, 0.0)
    if appearance.stripes:
        dark = shaded(shirt, 0.68 if sum(shirt) > 150 else 1.9)
        for height in (0.24, 0.46, 0.68):
            width = 0.97 * float(np.interp(height, (0.08, 0.35, 0.93), (hip, waist, shoulder)))
            band = [(height, width), (height - 0.09, width)]
            yield Shape("torso", "shirt", _both_sides(trunk, band), dark, 0.001)
    seat = [(0.16, 0.97 * hip), (-0.06, hip), (-0.2, 0.72 * hip), (-0.22, 0.25 * hip)]
    yield Shape("pelvis", "bottom", _both_sides(trunk, seat), bottom, -0.001)


def _both_sides(trunk: _Trunk, outline: list[tuple[float, float]]) -> Points:
    """A polygon from (height, half width) pairs from top to bottom."""
    there = [trunk.at(height, width) for height, width in outline]
    back = [trunk.at(height, -width) for height, width in reversed(outline)]
    return np.array(there + back)


def _limbs(skeleton: Skeleton, body: Proportions, appearance: Appearance) -> Iterator[Shape]:
    """Neck, arms and legs: bare limbs, and the sleeves and trouser legs over them."""
    pieces = [("neck", "skin", skeleton.chest, skeleton.head, _NECK, appearance.skin, -0.004)]
    for half in (0, 1):
        pieces += _arm(skeleton, appearance, half)
        pieces += _leg(skeleton, appearance, half)
    starts = np.array([piece[2][:2] for piece in pieces])
    ends = np.array([piece[3][:2] for piece in pieces])
    radii = np.array([piece[4] for piece in pieces]) * body.build**0.7
    outlines = capsules(starts, ends, radii)
    for (limb, region, start, end, _, color, bias), outline in zip(pieces, outlines, strict=True):
        depth = float(start[2] + end[2]) / 2
        tone = shaded(color, _FAR_SHADE) if depth < _FAR else color
        yield Shape(limb, region, outline, tone, depth + bias)


_Piece: TypeAlias = tuple[str, str, Points, Points, tuple[float, float], Rgb, float]


def _arm(skeleton: Skeleton, appearance: Appearance, half: _Half) -> Iterator[_Piece]:
    side = SIDES[half]
    shoulder, elbow = skeleton.pair("shoulder")[half], skeleton.pair("elbow")[half]
    wrist, hand = skeleton.pair("wrist")[half], skeleton.pair("hand")[half]
    # Arms that hang beside the trunk are drawn over it, unless they are on its far side.
    bias = 0.03
    sleeve = cloth(appearance, appearance.shirt)
    yield f"{side}_hand", "skin", wrist, hand, _HAND, appearance.skin, bias + 0.002
    yield (
        *(f"{side}_forearm", "skin", elbow, wrist, _FOREARM, appearance.skin),
        bias + 0.001,
    )
    yield f"{side}_upper_arm", "skin", shoulder, elbow, _UPPER_ARM, appearance.skin, bias
    reach = _SLEEVE_END[appearance.sleeves]
    if reach > 0:
        end = shoulder + reach * (elbow - shoulder)
        width = (_UPPER_ARM[0] * 1.12, _UPPER_ARM[1] * 1.18)
        level = _level(shoulder, elbow, end)
        yield f"{side}_upper_arm", "shirt", shoulder, end, width, sleeve, bias + 0.003 + level
    if reach == 1:
        end = elbow + 0.94 * (wrist - elbow)
        width = (_FOREARM[0] * 1.15, _FOREARM[1] * 1.2)
        level = _level(elbow, wrist, end)
        yield f"{side}_forearm", "shirt", elbow, end, width, sleeve, bias + 0.004 + level


def _leg(skeleton: Skeleton, appearance: Appearance, half: _Half) -> Iterator[_Piece]:
    side = SIDES[half]
    hip, knee = skeleton.pair("hip")[half], skeleton.pair("knee")[half]
    ankle, toes = skeleton.pair("ankle")[half], skeleton.pair("toes")[half]
    bias = -0.02
    color = cloth(appearance, appearance.bottom)
    yield f"{side}_foot", "shoes", ankle, toes, _FOOT, appearance.shoes, bias - 0.002
    yield f"{side}_shin", "skin", knee, ankle, _SHIN, appearance.skin, bias
    yield f"{side}_thigh", "skin", hip, knee, _THIGH, appearance.skin, bias + 0.001
    if appearance.bottom_kind == "skirt":
        return
    end = knee if appearance.bottom_kind == "trousers" else hip + 0.72 * (knee - hip)
    level = _level(hip, knee, end)
    width = (_THIGH[0] * 1.08, _THIGH[1] * 1.16)
    yield f"{side}_thigh", "bottom", hip, end, width, color, bias + 0.002 + level
    if appearance.bottom_kind == "trousers":
        end = knee + 0.93 * (ankle - knee)
        width = (_SHIN[0] * 1.12, _SHIN[1] * 1.35)
        yield f"{side}_shin", "bottom", knee, end, width, color, bias + 0.0015


def _level(start: Points, joint: Points, end: Points) -> float:
    """What lifts a garment that ends at `end` to the depth of the limb from `start` to `joint`."""
    return float(joint[2] - end[2]) / 2 if end is not joint else 0.0


def _skirt(skeleton: Skeleton, trunk: _Trunk, appearance: Appearance, body: Proportions) -> Shape:
    """From the waist to two thirds of the thighs, wider at the hem."""
    hems = skeleton.pair("hip") + 0.68 * (skeleton.pair("knee") - skeleton.pair("hip"))
    left, right = sorted(hems[:, :2].tolist())
    flare = 0.062 * body.build
    _, _, hip = trunk.widths
    corners = np.array(
        [
            trunk.at(0.14, hip),
            trunk.at(-0.05, hip * 1.06),
            (right[0] + flare, right[1]),
            (left[0] - flare, left[1]),
            trunk.at(-0.05, -hip * 1.06),
            trunk.at(0.14, -hip),
        ]
    )
    depth = max(0.0, float(hems[:, 2].max())) + 0.005
    return Shape("skirt", "bottom", corners, cloth(appearance, appearance.bottom), depth)


def _seat(skeleton: Skeleton, body: Proportions) -> Shape:
    """A block from under the hips to the ground, behind everything of the person."""
    x, y = skeleton.pelvis[:2]
    half, top = 0.12 * body.build, y + 0.045
    ground = float(skeleton.pair("toes")[:, 1].max())
    corners = np.array([(x - half, top), (x + half, top), (x + half, ground), (x - half, ground)])
    return Shape("seat", "prop", corners, _WOOD, -1.0)
