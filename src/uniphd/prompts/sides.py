"""Left and right in captions: which words name a side of the image, and their opposites.

Three kinds of words: those that name a side ("left", "rightmost", "lefty", "topleft", "rhs"), those
that only look so, by themselves ("bright") or by their neighbours ("who left", "right behind"), and
unknown ones ("leftfielder"), which stay as they are and can be counted. Where neighbours leave it
open, a word is taken for a side: an exchanged verb is nonsense, a wrong side somebody else.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_OPPOSITES = {
    "left": "right", "right": "left",
    "lft": "rt", "rt": "lft",
    "lhs": "rhs", "rhs": "lhs",
    "lh": "rh", "rh": "lh",
    "l": "r", "r": "l",
    "lt": "rt", "rgt": "lft", "rght": "lft",
    "lef": "right", "letf": "right", "rigth": "left", "rihgt": "left", "rigt": "left",
    "righ": "left", "rite": "left",
}  # fmt: skip

_ONES = "guy|man|woman|girl|boy|kid|child|lady|person|dude|player|one"
_PARTS = (
    "side|hand|arms?|legs?|foot|feet|shoulders?|knees?|corner|edge|end|half|top|bottom|front|back"
    "|cent(?:er|re)|middle"
)
_PLACES = "top|bottom|upper|lower|front|back|rear|far|mid|middle|cent(?:er|re)|extreme"
_COMPOUND = re.compile(
    rf"(?:{_PLACES}|the|on|to|from|in|at|of|most)?(?P<side>left|right|lft|(?<!to)rt)t*"
    r"(?:most|mostly|handed|handers?|handside|sided|sides|wards?|ys?|ies?|ish|er|est"
    rf"|{_PARTS}|{_ONES})?",
    re.IGNORECASE | re.ASCII,
)
_NO_SIDES = re.compile(
    r".*(?:[bfw]|up|out|down|copy|birth|forth|al)right.*|aright|right(?:s|ly|ist.*|ful.*|eous.*)"
    r"|.*cleft.*|left(?:overs?|ist.*)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+")
_CONTEXT = 40  # characters before and behind a word that decide


def _before(pattern: str) -> re.Pattern[str]:
    """Words in front of another one."""
    return re.compile(rf"(?:{pattern})$", re.IGNORECASE)


def _behind(pattern: str) -> re.Pattern[str]:
    """Words behind another one."""
    return re.compile(pattern, re.IGNORECASE)


# A word behind these is a side: "on the right behind the table", "far left alone".
_POINTING = _before(
    rf"(?:\b(?:the|on|to|from|at|of|very|most|his|her|their|its|my|your|our|{_PLACES})"
    r"|(?<!\bwho)(?<!\bhe)(?<!\bshe)(?<!\bit)(?<!\bthat)(?<!\bthere)['\u2019]s)[\s-]+"
)
_END = r"\s*(?:$|[.,;:!?)])"
_SUBJECT = _before(
    r"\b(?:who|which|what|that|he|she|they|we|you|has|have|had|having|just|already|never)"
    r"(?:['\u2019](?:s|ve|d))?\s+"
)
_OBJECT = _behind(
    rf"{_END}|\s+(?:the|an?|his|her|their|its|my|our|your|him|them|it|us|me|for|to|from|in|on|at"
    r"|with|by|early|already|behind|alone|home|town|work|school)\b"
)
_ABANDONED = _behind(rf"\s+(?:alone|unattended)\b|-overs?\b|\s+behind{_END}")
_AGREEING = _before(r"\b(?:all|you['\u2019]re|you are|that['\u2019]s)\s+")
_MEANT = _behind(rf"\s+(?:of|most|{_PARTS})\b")
_NO_DIRECTION = _behind(r"[\s-]+(?:tri)?angle[sd]?\b|[\s-]+of[\s-]+way\b")
_EXACTLY = _behind(
    r"\s+(?:behind|beside|next|in\s+front|in\s+(?:the\s+)?(?:middle|cent(?:er|re))|on\s+top|there"
    r"|here|now|away|before|after|against|above|below|beneath|under|underneath|between|outside"
    r"|inside|across|around|along|alongside|into|onto|through|past|side\s+up)\b"
)
_PLACED = _before(
    rf"\b(?:on|from|to|at|very|most|first|second|third|\d(?:st|nd|rd|th)|{_PLACES})[\s-]+(?:the\s+)?"
)
_PART = _behind(rf"\s+(?:most|{_PARTS}|{_ONES})\b")
_JOINED = _behind(r"[-'\u2019.&]\w")
_SPACED = _before(r"(?:^|\s)")
_GOING_ON = _behind(rf"{_END}|\s+(?:most|of|in|w|with|wearing|holding|standing|sitting|{_PARTS})\b")
_NUMBER = _behind(r"\.?\s*\d+\b")


class _Side(NamedTuple):
    """A place of a text, and what stands there in a mirror."""

    start: int
    end: int
    opposite: str


def mirror_caption(caption: str) -> str:
    """Exchange the sides that a caption names, keeping their case.

    Where they are there in other characters only (full width, styled, with invisible ones inside),
    the caption comes back in plain ones. (The official release replaces substrings and makes
    "bleft" of "bright".)
    """
    sides, plain = list(_sides(caption)), _plain(caption)
    in_plain = sides if plain == caption else list(_sides(plain))
    if len(in_plain) != len(sides):
        caption, sides = plain, in_plain
    pieces, done = [], 0
    for side in sides:
        pieces += [caption[done : side.start], side.opposite]
        done = side.end
    return "".join([*pieces, caption[done:]])


def count_unknown_sides(captions: Iterable[str]) -> Counter[str]:
    """How often each word occurs that `mirror_caption` leaves alone and that may name a side."""
    return Counter(word for caption in captions for word in _unknown(_plain(caption)))


def _sides(text: str) -> Iterator[_Side]:
    for word in _WORD.finditer(text):
        start, end = _stem(word)
        stem = text[start:end]
        before, behind = _neighbours(text, word)
        if stem and _names_a_side(stem.lower(), before, behind):
            yield _Side(start, end, _in_case_of(stem, _OPPOSITES[stem.lower()]))


def _unknown(text: str) -> Iterator[str]:
    for word in _WORD.finditer(text):
        lower = word[0].lower()
        before, behind = _neighbours(text, word)
        if lower in ("l", "r"):
            alone = _SPACED.search(before) and not _JOINED.match(behind)
            if alone and not _names_a_side(lower, before, behind):
                yield lower
        elif "left" in lower or "right" in lower:
            start, end = _stem(word)
            if start == end and not _NO_SIDES.fullmatch(lower):
                yield lower


def _stem(word: re.Match[str]) -> tuple[int, int]:
    """From where to where in the text a word may name a side; an empty range for other words."""
    compound = _COMPOUND.fullmatch(word[0])
    if compound:
        return word.start() + compound.start("side"), word.start() + compound.end("side")
    return (word.start(), word.end()) if word[0].lower() in _OPPOSITES else (0, 0)


def _neighbours(text: str, word: re.Match[str]) -> tuple[str, str]:
    first = max(0, word.start() - _CONTEXT)
    return text[first : word.start()], text[word.end() : word.end() + _CONTEXT]


def _names_a_side(stem: str, before: str, behind: str) -> bool:
    """Whether a word that can name a side does so between its neighbours."""
    if stem == "left":
        gone = _SUBJECT.search(before) and _OBJECT.match(behind)
        return not (gone or (_ABANDONED.match(behind) and not _POINTING.search(before)))
    if stem == "right":
        agrees = _AGREEING.search(before) and not _MEANT.match(behind)
        exactly = _EXACTLY.match(behind) and not _POINTING.search(before)
        return not (agrees or exactly or _NO_DIRECTION.match(behind))
    if stem == "rt":
        return not _NUMBER.match(behind)  # a road
    if stem == "lt":  # often "light"
        return bool(_PLACED.search(before) and _GOING_ON.match(behind))
    if stem in ("l", "r"):
        placed = _PLACED.search(before) and not _JOINED.match(behind)
        return bool(placed or _PART.match(behind))
    return True


def _in_case_of(word: str, other: str) -> str:
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def _plain(caption: str) -> str:
    """Compatible characters (NFKC) without the invisible ones of format."""
    compatible = unicodedata.normalize("NFKC", caption)
    return "".join(letter for letter in compatible if unicodedata.category(letter) != "Cf")
