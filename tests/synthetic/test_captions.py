"""Captions: evaluated anew, from the attributes of the people, by rules written down here."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from uniphd.prompts.sides import mirror_caption
from uniphd.synthetic import predicates as claims
from uniphd.synthetic.appearance import (
    BOTTOM_COLORS,
    COLORS,
    HELD_OUT,
    SEEN_PAIRS,
    SHIRT_COLORS,
    sample_appearance,
)
from uniphd.synthetic.scene import SyntheticScene

Scenes = list[SyntheticScene]


class Facts:
    """The attributes of a scene's people, without margins: what is literally so."""

    def __init__(self, scene: SyntheticScene) -> None:
        self.appearances = [person.traits.appearance for person in scene.people]
        self.poses = [person.traits.pose for person in scene.people]
        self.facing = [person.traits.facing for person in scene.people]
        self.depths = [person.traits.depth for person in scene.people]
        self.x = [
            float(np.nonzero(person.mask)[1].mean()) / person.mask.shape[1]
            for person in scene.people
        ]

    def holding(self, claim: claims.Predicate) -> set[int]:
        """The people of whom a claim is literally true."""
        everybody = set(range(len(self.appearances)))
        name, value = type(claim).__name__, vars(claim)
        if name == "Both":
            return self.holding(value["first"]) & self.holding(value["second"])
        if name in ("Beside", "DepthFrom"):
            (anchor,) = self.holding(value["anchor"])
            if name == "Beside" and value["side"] == "left":
                return {i for i in everybody if self.x[i] < self.x[anchor]}
            if name == "Beside":
                return {i for i in everybody if self.x[i] > self.x[anchor]}
            if value["order"] == "before":
                return {i for i in everybody if self.depths[i] > self.depths[anchor]}
            return {i for i in everybody if self.depths[i] < self.depths[anchor]}
        order = sorted(everybody, key=lambda i: self.x[i])
        if value.get("side") == "right":
            order.reverse()
        match name:
            case "ShirtIs":
                return {i for i in everybody if self.appearances[i].shirt == value["color"]}
            case "BottomIs":
                return {i for i in everybody if self.appearances[i].bottom == value["color"]}
            case "HasHat":
                wanted = set(COLORS) if value["color"] is None else {value["color"]}
                return {i for i in everybody if self.appearances[i].hat_color in wanted}
            case "HairIs":
                return {
                    i
                    for i in everybody
                    if self.appearances[i].hair == value["color"]
                    and self.appearances[i].hair_length != "bald"
                }
            case "PoseIs":
                return {i for i in everybody if self.poses[i] == value["pose"]}
            case "FromBehind":
                return {i for i in everybody if self.facing[i] > 125}
            case "InHalf":
                left = {i for i in everybody if self.x[i] < 0.49}
                return left if value["side"] == "left" else everybody - left
            case "Outermost":
                return {order[0]}
            case "SecondFrom":
                return {order[1]}
            case "InMiddle":
                return {order[1]} if len(order) == 3 else set()
            case "Nearest":
                return {self.depths.index(max(self.depths))}
            case "Farthest":
                return {self.depths.index(min(self.depths))}
        raise AssertionError(f"unknown claim {claim}")


def all_scenes(*groups: Scenes) -> Scenes:
    return [scene for group in groups for scene in group]


def test_every_caption_is_true_of_its_person_alone(
    scenes: Scenes, unseen_scenes: Scenes, pair_scenes: Scenes
) -> None:
    kinds = set()
    for scene in all_scenes(scenes, unseen_scenes, pair_scenes):
        facts = Facts(scene)
        for index, person in enumerate(scene.people):
            assert 3 <= len(person.captions) <= 5
            assert len({caption.text for caption in person.captions}) == len(person.captions)
            for caption in person.captions:
                kinds.add(type(caption.claim).__name__)
                assert facts.holding(caption.claim) == {index}, caption
    assert {"ShirtIs", "BottomIs", "HasHat", "HairIs", "PoseIs", "FromBehind", "InHalf"} <= kinds
    assert {"Outermost", "Nearest", "Farthest", "Beside", "DepthFrom", "Both"} <= kinds


def test_no_caption_fits_two_people_of_an_image(scenes: Scenes) -> None:
    for scene in scenes:
        texts = [caption.text for person in scene.people for caption in person.captions]
        assert len(set(texts)) == len(texts)


def colors_claimed(claim: claims.Predicate) -> list[str]:
    match claim:
        case claims.Both(first, second):
            return colors_claimed(first) + colors_claimed(second)
        case claims.Beside() | claims.DepthFrom():
            return colors_claimed(claim.anchor)
        case claims.ShirtIs() | claims.BottomIs() | claims.HairIs():
            return [claim.color]
        case claims.HasHat():
            return [] if claim.color is None else [claim.color]
    return []


def test_sentences_name_the_colours_and_sides_of_their_claims(scenes: Scenes) -> None:
    """The words are checked against the claim without looking at the people."""
    words = re.compile(r"\b(" + "|".join([*COLORS, "brown", "blond", "grey"]) + r")\b")
    for scene in scenes:
        for person in scene.people:
            for caption in person.captions:
                named = words.findall(caption.text)
                assert sorted(named) == sorted(colors_claimed(caption.claim)), caption
                side = {"left", "right"} & set(re.findall("left|right", caption.text))
                claimed = set(re.findall("side='(left|right)'", repr(caption.claim)))
                assert side == claimed, caption
                if side:
                    assert mirror_caption(caption.text) != caption.text


def test_what_is_worn_below_the_shirt_has_its_own_word(scenes: Scenes) -> None:
    words = {"trousers": "trousers|pants", "shorts": "shorts", "skirt": "skirt"}
    checked = 0
    for scene in scenes:
        for person in scene.people:
            for caption in person.captions:
                if isinstance(caption.claim, claims.BottomIs):
                    checked += 1
                    assert re.search(words[person.traits.appearance.bottom_kind], caption.text)
    assert checked > 20


def pairs(scene: SyntheticScene) -> list[tuple[str, str]]:
    return [
        (person.traits.appearance.shirt, person.traits.appearance.bottom) for person in scene.people
    ]


def test_held_out_pairs_are_a_fair_choice() -> None:
    assert {shirt for shirt, _ in HELD_OUT} == set(SHIRT_COLORS)
    assert {bottom for _, bottom in HELD_OUT} == set(BOTTOM_COLORS)
    assert {shirt for shirt, _ in SEEN_PAIRS} == set(SHIRT_COLORS)
    assert {bottom for _, bottom in SEEN_PAIRS} == set(BOTTOM_COLORS)
    assert not HELD_OUT & set(SEEN_PAIRS)


def test_nobody_wears_a_held_out_pair_in_training(scenes: Scenes, pair_scenes: Scenes) -> None:
    worn = {pair for scene in all_scenes(scenes, pair_scenes) for pair in pairs(scene)}
    assert not worn & HELD_OUT
    assert len(worn) > 30


@pytest.mark.parametrize("group", ["unseen_scenes", "pair_scenes"])
def test_pair_splits_need_both_colours(group: str, request: pytest.FixtureRequest) -> None:
    chosen = []
    for scene in request.getfixturevalue(group):
        (target,) = [index for index, person in enumerate(scene.people) if person.referred]
        shirt, bottom = pairs(scene)[target]
        chosen.append((shirt, bottom))
        others = [pair for index, pair in enumerate(pairs(scene)) if index != target]
        assert (shirt, bottom) not in others
        sharing = [first == shirt or second == bottom for first, second in others]
        assert sum(sharing) >= min(2, len(others))
        if len(others) > 1:
            assert any(first == shirt for first, _ in others)
            assert any(second == bottom for _, second in others)
        for caption in scene.people[target].captions:
            named = re.findall("|".join(COLORS), caption.text)
            assert sorted(named) == sorted((shirt, bottom))
    held_out = [pair in HELD_OUT for pair in chosen]
    assert all(held_out) if group == "unseen_scenes" else not any(held_out)


def make_traits(**changes: object) -> claims.Traits:
    appearance = sample_appearance(np.random.default_rng(0), ("red", "blue"))
    everything = frozenset({"shirt", "bottom", "hat", "hair", "pose"})
    return replace(
        claims.Traits(appearance, "standing", 0.0, 0.5, 0.5, everything),
        **changes,  # type: ignore[arg-type]
    )


def test_what_is_nearly_so_or_hidden_is_unclear() -> None:
    left, near_left, right = (make_traits(x=x) for x in (0.2, 0.25, 0.8))
    people = [left, near_left, right]
    truth = claims.Outermost("left").truth
    assert [truth(people, index) for index in range(3)] == [
        claims.Truth.UNCLEAR,
        claims.Truth.UNCLEAR,
        claims.Truth.NO,
    ]
    assert claims.referent(claims.Outermost("left"), people) is None
    assert claims.referent(claims.Outermost("right"), people) == 2
    hidden = make_traits(visible=frozenset())
    assert claims.ShirtIs("red").truth([hidden, left], 0) is claims.Truth.UNCLEAR
    assert claims.ShirtIs("green").truth([hidden, left], 0) is claims.Truth.NO
    assert claims.referent(claims.ShirtIs("red"), [hidden, left]) is None
