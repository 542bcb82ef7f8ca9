"""Captions of a person: claims that are true of nobody else in the scene, put into words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from uniphd.synthetic.appearance import HAIR_COLORS, HAT_COLORS, pick
from uniphd.synthetic.pose import POSES
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
    Truth,
    referent,
)
from uniphd.synthetic.wording import say

LEAST, MOST = 3, 5
"""Captions per person."""

_POSITIONS: tuple[Predicate, ...] = (
    InHalf("left"),
    InHalf("right"),
    Outermost("left"),
    Outermost("right"),
    SecondFrom("left"),
    SecondFrom("right"),
    InMiddle(),
    Nearest(),
    Farthest(),
)
_DETAILS: tuple[Predicate, ...] = (
    HasHat(),
    *(HasHat(color) for color in HAT_COLORS),
    *(HairIs(color) for color in HAIR_COLORS),
)
_ACTIONS: tuple[Predicate, ...] = (
    *(PoseIs(pose) for pose in POSES if pose != "standing"),  # most poses are a kind of standing
    FromBehind(),
)


@dataclass(frozen=True)
class Caption:
    """A text and what it claims."""

    text: str
    claim: Predicate


def write_captions(
    rng: np.random.Generator, people: Sequence[Traits], index: int
) -> tuple[Caption, ...]:
    """Three to five captions of a person, as different as they can be; none if there are fewer."""
    families = _families(people, index)
    names = [name for name in families for _ in range(2)]
    captions: dict[str, Caption] = {}
    for position in rng.permutation(len(names)):
        claim = pick(rng, families[names[position]])
        if referent(claim, people) == index:
            text = say(rng, claim, people, index)
            captions[text] = Caption(text, claim)
        if len(captions) == MOST:
            break
    return tuple(captions.values()) if len(captions) >= LEAST else ()


def write_pair_captions(
    rng: np.random.Generator, people: Sequence[Traits], index: int
) -> tuple[Caption, ...]:
    """Three to five wordings of "in the ... shirt and ... trousers"; none if others match."""
    appearance = people[index].appearance
    claim = Both(ShirtIs(appearance.shirt), BottomIs(appearance.bottom))
    if referent(claim, people) != index:
        return ()
    texts = dict.fromkeys(say(rng, claim, people, index) for _ in range(4 * MOST))
    return tuple(Caption(text, claim) for text in list(texts)[:MOST])


def _families(people: Sequence[Traits], index: int) -> dict[str, list[Predicate]]:
    """What is true of a person, by kind of claim; each kind is equally often said."""
    appearance = people[index].appearance
    clothes: tuple[Predicate, ...] = (ShirtIs(appearance.shirt), BottomIs(appearance.bottom))

    def true(claims: Sequence[Predicate]) -> list[Predicate]:
        return [claim for claim in claims if claim.truth(people, index) is Truth.YES]

    families = {
        "shirt": true(clothes[:1]),
        "bottom": true(clothes[1:]),
        "detail": true(_DETAILS),
        "action": true(_ACTIONS),
        "position": true(_POSITIONS),
        "relation": true(list(_relations(people, index))),
    }
    single = [*families["detail"], *families["action"], *families["position"]]
    pairs: dict[str, list[Predicate]] = defaultdict(list)
    if len(true(clothes)) == 2:
        pairs["clothes"].append(Both(*clothes))
    for garment in true(clothes):
        pairs["dressed"] += [Both(garment, other) for other in single]
    pairs["other"] = [
        Both(first, second)
        for first in (*families["detail"], *families["action"])
        for second in families["position"]
    ]
    return {name: claims for name, claims in {**families, **pairs}.items() if claims}


def _relations(people: Sequence[Traits], index: int) -> Iterator[Predicate]:
    """Places relative to others who can be named by one thing that they wear or do."""
    for other, traits in enumerate(people):
        if other == index:
            continue
        names: list[Predicate] = [
            ShirtIs(traits.appearance.shirt),
            BottomIs(traits.appearance.bottom),
        ]
        names += [HasHat(traits.appearance.hat_color), PoseIs(traits.pose)]
        for anchor in names:
            if anchor != PoseIs("standing") and referent(anchor, people) == other:
                yield Beside("left", anchor)
                yield Beside("right", anchor)
                yield DepthFrom("before", anchor)
                yield DepthFrom("behind", anchor)
