"""What a caption claims, as values: each can be asked about every person of a scene.

A claim is yes or no only where somebody who looks at the image would say so; what is nearly so,
or hidden, is unclear. A caption may be used where its claim is yes for one person and no for all
others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

from uniphd.synthetic.appearance import Appearance


class Truth(Enum):
    """Whether a claim holds of a person."""

    NO = 0
    UNCLEAR = 1
    YES = 2


@dataclass(frozen=True)
class Traits:
    """What can be said about one person.

    Attributes:
        appearance: clothes and hair.
        pose: its name.
        facing: degrees in [0, 180] between the person's front and the camera.
        depth: 0 is far, 1 is near.
        x: middle of the visible pixels over the image's width.
        visible: of "shirt", "bottom", "hat", "hair", "pose" those that show clearly.
    """

    appearance: Appearance
    pose: str
    facing: float
    depth: float
    x: float
    visible: frozenset[str]


Side: TypeAlias = Literal["left", "right"]

_CLEAR_X = 0.08  # of the image's width: who is clearly left of somebody
_CLEAR_DEPTH = 0.2
_NEAR_X = 0.28  # who stands farther aside is neither before nor behind somebody
_LEFT_HALF, _MIDDLE = 0.42, 0.5
_BEHIND, _NOT_BEHIND = 140.0, 115.0
_SIMILAR_HAIR = (
    {"black", "brown"}, {"brown", "red"}, {"red", "blond"}, {"blond", "grey"},
)  # fmt: skip
_SIMILAR_POSES = ({"waving", "arms up"}, {"walking", "kicking"})


class Predicate(ABC):
    """A claim about one person of a scene."""

    @abstractmethod
    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        """Whether the claim holds of person `index`."""


@dataclass(frozen=True)
class ShirtIs(Predicate):
    """Wears a shirt of a colour."""

    color: str

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        return _shown(people[index], "shirt", people[index].appearance.shirt == self.color)


@dataclass(frozen=True)
class BottomIs(Predicate):
    """Wears trousers, shorts or a skirt of a colour, whichever of the three."""

    color: str

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        return _shown(people[index], "bottom", people[index].appearance.bottom == self.color)


@dataclass(frozen=True)
class HasHat(Predicate):
    """Wears a hat, of a colour or of any."""

    color: str | None = None

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        worn = people[index].appearance.hat_color
        holds = worn is not None and self.color in (None, worn)
        return _shown(people[index], "hat", holds)


@dataclass(frozen=True)
class HairIs(Predicate):
    """Has hair of a colour; neighbouring colours and hair under a hat are unclear."""

    color: str

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        appearance = people[index].appearance
        if appearance.hair_length == "bald":
            return Truth.NO
        if appearance.hair == self.color:
            return Truth.YES if "hair" in people[index].visible else Truth.UNCLEAR
        return Truth.UNCLEAR if {appearance.hair, self.color} in _SIMILAR_HAIR else Truth.NO


@dataclass(frozen=True)
class PoseIs(Predicate):
    """Is in a pose."""

    pose: str

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        person = people[index]
        if {person.pose, self.pose} in _SIMILAR_POSES:
            return Truth.UNCLEAR
        return _shown(person, "pose", person.pose == self.pose)


@dataclass(frozen=True)
class FromBehind(Predicate):
    """Is seen from behind."""

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        facing = people[index].facing
        return _graded(facing, _BEHIND, _NOT_BEHIND)


@dataclass(frozen=True)
class InHalf(Predicate):
    """Is in the left or right half of the image."""

    side: Side

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        x = people[index].x
        return _graded(1 - x if self.side == "left" else x, 1 - _LEFT_HALF, _MIDDLE)


@dataclass(frozen=True)
class Outermost(Predicate):
    """Is the one farthest to a side."""

    side: Side

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        return _place(people, index, self.side, 0)


@dataclass(frozen=True)
class SecondFrom(Predicate):
    """Is next to the one farthest to a side, of four or more."""

    side: Side

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        return _place(people, index, self.side, 1) if len(people) > 3 else Truth.NO


@dataclass(frozen=True)
class InMiddle(Predicate):
    """Is the middle one of three."""

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        return _place(people, index, "left", 1) if len(people) == 3 else Truth.NO


@dataclass(frozen=True)
class Nearest(Predicate):
    """Is the one nearest to the camera."""

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        others = [person.depth for i, person in enumerate(people) if i != index]
        return _graded(people[index].depth - max(others), _CLEAR_DEPTH, 0)


@dataclass(frozen=True)
class Farthest(Predicate):
    """Is the one farthest from the camera."""

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        others = [person.depth for i, person in enumerate(people) if i != index]
        return _graded(min(others) - people[index].depth, _CLEAR_DEPTH, 0)


@dataclass(frozen=True)
class Beside(Predicate):
    """Is to the left or right of the one that another claim picks."""

    side: Side
    anchor: Predicate

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        anchor = referent(self.anchor, people)
        if anchor is None:
            return Truth.UNCLEAR
        shift = people[index].x - people[anchor].x
        shift = -shift if self.side == "left" else shift
        return Truth.NO if anchor == index else _graded(shift, _CLEAR_X, 0)


@dataclass(frozen=True)
class DepthFrom(Predicate):
    """Is before or behind the one that another claim picks, and not far to the side."""

    order: Literal["before", "behind"]
    anchor: Predicate

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        anchor = referent(self.anchor, people)
        if anchor is None:
            return Truth.UNCLEAR
        if anchor == index:
            return Truth.NO
        nearer = people[index].depth - people[anchor].depth
        truth = _graded(nearer if self.order == "before" else -nearer, _CLEAR_DEPTH, 0)
        aside = abs(people[index].x - people[anchor].x) > _NEAR_X
        return Truth.UNCLEAR if aside and truth is Truth.YES else truth


@dataclass(frozen=True)
class Both(Predicate):
    """Two claims hold."""

    first: Predicate
    second: Predicate

    def truth(self, people: Sequence[Traits], index: int) -> Truth:
        truths = [claim.truth(people, index) for claim in (self.first, self.second)]
        return min(truths, key=lambda truth: truth.value)


def referent(predicate: Predicate, people: Sequence[Traits]) -> int | None:
    """The one person of whom a claim is true while it is false of all others, or None."""
    truths = [predicate.truth(people, index) for index in range(len(people))]
    if truths.count(Truth.YES) == 1 and truths.count(Truth.NO) == len(people) - 1:
        return truths.index(Truth.YES)
    return None


def _shown(person: Traits, what: str, holds: bool) -> Truth:
    """No, yes, or unclear where it holds but does not show."""
    if not holds:
        return Truth.NO
    return Truth.YES if what in person.visible else Truth.UNCLEAR


def _graded(value: float, yes: float, no: float) -> Truth:
    """Yes from one threshold, no up to the other, unclear between them."""
    if value >= yes:
        return Truth.YES
    return Truth.NO if value <= no else Truth.UNCLEAR


def _place(people: Sequence[Traits], index: int, side: Side, place: int) -> Truth:
    """Whether a person is at a place from a side, by a clear distance to those next to it."""
    sign = 1 if side == "left" else -1
    ahead = sorted(sign * (person.x - people[index].x) for person in people)
    clear = sum(shift <= -_CLEAR_X for shift in ahead)
    unsure = sum(abs(shift) < _CLEAR_X for shift in ahead) - 1  # the person itself is at 0
    if unsure == 0:
        return Truth.YES if clear == place else Truth.NO
    return Truth.UNCLEAR if clear <= place <= clear + unsure else Truth.NO
