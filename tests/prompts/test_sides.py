"""Which words of a caption name a side: those are exchanged in a mirror, and no others."""

from __future__ import annotations

import pytest

from uniphd.prompts.sides import count_unknown_sides, mirror_caption

EXCHANGED = [
    ("the man on the left", "the man on the right"),
    ("Left of the RIGHT door, right?", "Right of the LEFT door, left?"),
    ("left-handed, leftmost, right side", "right-handed, rightmost, left side"),
    ("leftmost lefthanded rightside", "rightmost righthanded leftside"),
    ("left_arm, LEFT-hand, left2, far-left", "right_arm, RIGHT-hand, right2, far-right"),
    ("leftwards of the right-hander's", "rightwards of the left-hander's"),
    ("lefty in red", "righty in red"),
    ("Lefty, RIGHTY, lefties, a leftie's", "Righty, LEFTY, righties, a rightie's"),
    ("guy on far lft", "guy on far rt"),
    ("rhs, LHS, lh side, Rt corner", "lhs, RHS, rh side, Lft corner"),
    ("lefthand lefthandside left-hand", "righthand righthandside right-hand"),
    (
        "topleft BottomRight farleft leftguy theleft",
        "topright BottomLeft farright rightguy theright",
    ),
    ("2nd from the left", "2nd from the right"),
    ("second from l, far R", "second from r, far L"),
    ("l guy, the one on the L.", "r guy, the one on the R."),
    ("man on lt in red", "man on rt in red"),
    ("rt 2nd guy, bottom-l, very r", "lft 2nd guy, bottom-r, very l"),
    ("lftmost, rt-most, lfthand, toprt", "rtmost, lft-most, rthand, toplft"),
    ("his l arm, leftarm", "his r arm, rightarm"),
    ("leftt, rightttmost", "rightt, leftttmost"),
    ("left/right", "right/left"),
    ("the leftest one, leftish", "the rightest one, rightish"),
    ("has left hand up, his left leg", "has right hand up, his right leg"),
    ("just left of the tree", "just right of the tree"),
    ("one on the right behind the table", "one on the left behind the table"),
    ("far right next to the door", "far left next to the door"),
    ("the man's right beside him", "the man's left beside him"),
    ("man right, behind the table", "man left, behind the table"),
    ("on the left alone", "on the right alone"),
    ("all right hand players", "all left hand players"),
    ("who is that left of me", "who is that right of me"),
    ("the man left behind the table", "the man right behind the table"),
]

LEFT_ALONE = [
    "nothing to swap",
    "the bright shirt of the leftover wright",
    "cleft upright outright fright copyright playwright Albright",
    "the righteous rights, rightly brightened",
    "the man who left", "the man who's left, waving", "the one that left the room",
    "she has left the bus", "the bus he had just left", "the bag left behind",
    "the boy left alone", "left-over food",
    "all right", "All right, you're right",
    "the right angle", "a right-angled sign", "the right of way sign", "right-of-way",
    "what's left", "a tort",
    "the man right behind her", "right next to the door", "sitting right in front of the dog",
    "who's right behind him", "right in the middle", "standing right there",
    "rt 66 sign", "man in lt blue", "size L shirt", "toys r us", "the L-shaped couch",
    "an r&b singer",
]  # fmt: skip


@pytest.mark.parametrize(("caption", "mirrored"), EXCHANGED)
def test_sides_are_exchanged(caption: str, mirrored: str) -> None:
    assert mirror_caption(caption) == mirrored


@pytest.mark.parametrize("caption", LEFT_ALONE)
def test_what_only_looks_like_a_side_is_left_alone(caption: str) -> None:
    assert mirror_caption(caption) == caption


@pytest.mark.parametrize(("caption", "mirrored"), EXCHANGED[:17])
def test_a_mirror_of_a_mirror_is_the_caption(caption: str, mirrored: str) -> None:
    assert mirror_caption(mirrored) in (caption, caption.replace("lt", "lft"))


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("the rigth man", "the left man"),
        ("girl on the lef", "girl on the right"),
        ("RGHT", "LFT"),
        ("far rite", "far left"),
    ],
)
def test_slips_of_the_pen_are_exchanged(caption: str, mirrored: str) -> None:
    assert mirror_caption(caption) == mirrored


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("\uff4c\uff45\uff46\uff54 arm", "right arm"),  # full width
        ("the le\u00adft one, bright", "the right one, bright"),  # a soft hyphen
        ("\U0001d425\U0001d41e\U0001d41f\U0001d42d", "right"),  # bold of mathematics
        ("ri\u200bght \u2460", "left 1"),
        ("\u2460 \ufb01ne", "\u2460 \ufb01ne"),  # no side in it: stays as it is
    ],
)
def test_sides_in_other_characters_are_exchanged_too(caption: str, mirrored: str) -> None:
    assert mirror_caption(caption) == mirrored


def test_words_that_may_name_a_side_are_counted() -> None:
    captions = ["The LeftFielder", "a leftfielder, leftright", "man l", "l'homme, r&b", "size L"]
    assert count_unknown_sides(captions) == {"leftfielder": 2, "leftright": 1, "l": 2}
    known = [*LEFT_ALONE[:24], *(text for pair in EXCHANGED for text in pair)]
    assert not count_unknown_sides(known)


def test_a_long_caption_takes_no_time() -> None:
    text = "left right " * 20_000
    assert mirror_caption(text) == "right left " * 20_000
