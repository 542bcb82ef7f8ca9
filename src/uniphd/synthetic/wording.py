"""Claims in words, several for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uniphd.synthetic.appearance import Appearance, pick
from uniphd.synthetic.predicates import (
    Beside,
    Both,
    BottomIs,
    DepthFrom,
    Farthest,
    FromBehind,
    HairIs,
    HasHat,
    InHalf,
    InMiddle,
    Nearest,
    Outermost,
    PoseIs,
    Predicate,
    SecondFrom,
    ShirtIs,
    Traits,
    referent,
)

_NOUNS = ("person", "person", "one", "figure")
_SHORT = 0.12  # how often a claim about clothes is said without a noun: "red shirt on the left"

_BOTTOM_WORDS = {"trousers": ("trousers", "pants"), "shorts": ("shorts",), "skirt": ("skirt",)}
_POSE_WORDS = {
    "walking": ("walking", "who is walking"),
    "arms up": ("with both arms up", "raising both arms"),
    "waving": ("waving", "raising one arm"),
    "arms spread": ("with arms spread out", "stretching out both arms"),
    "hands on hips": ("with hands on hips", "whose hands are on the hips"),
    "sitting": ("sitting", "who is sitting down"),
    "kicking": ("kicking", "with one leg raised"),
}
_PLACES = (InHalf, Outermost, SecondFrom, InMiddle, Nearest, Farthest)


def say(rng: np.random.Generator, claim: Predicate, people: Sequence[Traits], index: int) -> str:
    """A noun phrase for a claim.

    Args:
        rng: which of the wordings.
        claim: what is said; its anchor, if it has one, picks one person.
        people: everybody, for what is worn below the shirts: trousers, shorts or a skirt.
        index: the referred person.
    """
    appearance = people[index].appearance
    if isinstance(claim, Outermost) and rng.random() < 0.3:
        return f"the {claim.side}most {pick(rng, _NOUNS)}"
    if isinstance(claim, Beside | DepthFrom):
        anchor = _anchor(rng, claim.anchor, people)
        return f"the {pick(rng, _NOUNS)} {_relation(rng, claim)} {anchor}"
    if rng.random() < _SHORT and (short := _short(rng, claim, appearance)):
        return short
    return f"the {pick(rng, _NOUNS)} {_phrase(rng, claim, appearance)}"


def _short(rng: np.random.Generator, claim: Predicate, appearance: Appearance) -> str:
    """A garment with or without a place or another garment; nothing for other claims."""
    match claim:
        case ShirtIs() | BottomIs():
            return _garment(rng, claim, appearance)
        case Both(ShirtIs() as shirt, BottomIs() as bottom):
            return f"{_garment(rng, shirt, appearance)} and {_garment(rng, bottom, appearance)}"
        case Both(ShirtIs() | BottomIs() as garment, second) if isinstance(second, _PLACES):
            return f"{_garment(rng, garment, appearance)} {_place(rng, second)}"
        case _:
            return ""


def _phrase(rng: np.random.Generator, claim: Predicate, appearance: Appearance) -> str:
    """What stands after the noun."""
    match claim:
        case ShirtIs() | BottomIs():
            article = _article(rng, claim, appearance)
            verb = pick(rng, ("in", "in", "wearing", "with", "dressed in"))
            return f"{verb} {article}{_garment(rng, claim, appearance)}"
        case HasHat(color):
            hat = "hat" if color is None else f"{color} hat"
            return f"{pick(rng, ('with', 'wearing', 'in'))} {pick(rng, ('a', 'the'))} {hat}"
        case HairIs(color):
            return pick(rng, (f"with {color} hair", f"who has {color} hair"))
        case PoseIs(pose):
            return pick(rng, _POSE_WORDS[pose])
        case FromBehind():
            return pick(rng, ("seen from behind", "facing away", "with the back to us"))
        case Both(first, second):
            return _conjunction(rng, first, second, appearance)
        case _:
            return _place(rng, claim)


def _place(rng: np.random.Generator, claim: Predicate) -> str:
    match claim:
        case InHalf(side):
            return pick(rng, (f"on the {side}", f"on the {side} side"))
        case Outermost(side):
            return pick(rng, (f"farthest to the {side}", f"on the far {side}"))
        case SecondFrom(side):
            return f"second from the {side}"
        case InMiddle():
            return pick(rng, ("in the middle", "between the other two"))
        case Nearest():
            return pick(rng, ("closest to the camera", "in front of everybody"))
        case Farthest():
            return pick(rng, ("farthest from the camera", "behind everybody"))
        case _:
            raise TypeError(f"{claim!r} is not about a place.")


def _relation(rng: np.random.Generator, claim: Beside | DepthFrom) -> str:
    if isinstance(claim, Beside):
        return pick(rng, (f"to the {claim.side} of", f"{claim.side} of"))
    return "in front of" if claim.order == "before" else "behind"


def _anchor(rng: np.random.Generator, claim: Predicate, people: Sequence[Traits]) -> str:
    """The neighbour that a claim picks, with a noun."""
    anchor = referent(claim, people)
    if anchor is None:
        raise ValueError(f"{claim!r} is not true of exactly one person.")
    appearance = people[anchor].appearance
    return f"the {pick(rng, ('one', 'person'))} {_phrase(rng, claim, appearance)}"


def _conjunction(
    rng: np.random.Generator, first: Predicate, second: Predicate, appearance: Appearance
) -> str:
    if isinstance(first, ShirtIs) and isinstance(second, BottomIs):
        garments = [
            _article(rng, claim, appearance) + _garment(rng, claim, appearance)
            for claim in (first, second)
        ]
        if rng.random() < 0.5:
            garments.reverse()
        return f"{pick(rng, ('in', 'wearing', 'with', 'dressed in'))} {' and '.join(garments)}"
    parts = [_phrase(rng, claim, appearance) for claim in (first, second)]
    if isinstance(second, _PLACES) and rng.random() < 0.3:
        parts.reverse()
    return " ".join(parts)


def _garment(rng: np.random.Generator, claim: ShirtIs | BottomIs, appearance: Appearance) -> str:
    if isinstance(claim, ShirtIs):
        return f"{claim.color} {pick(rng, ('shirt', 'shirt', 'top'))}"
    return f"{claim.color} {pick(rng, _BOTTOM_WORDS[appearance.bottom_kind])}"


def _article(rng: np.random.Generator, claim: ShirtIs | BottomIs, appearance: Appearance) -> str:
    if rng.random() < 0.5:
        return "the "
    if isinstance(claim, BottomIs) and appearance.bottom_kind != "skirt":
        return ""
    return "an " if claim.color == "orange" else "a "
