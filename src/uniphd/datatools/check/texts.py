"""What can be wrong with a caption that is a text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

LONGEST = 1000
"""Characters; text encoders read a few hundred words at most."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ROUNDS = 3  # of wrong decoding, one after the other


def text_flaws(text: str) -> Iterator[tuple[str, str]]:
    """Kinds of what is wrong with a text, each with a note."""
    if len(text) > LONGEST:
        yield "long caption", f"{len(text)} characters"
    repaired = repaired_text(text)
    if repaired != text:
        yield "wrongly decoded text", f"fits as {repaired!r}"
    if _REPLACEMENT in text:
        yield "lost letters", f"has {text.count(_REPLACEMENT)} replacement characters"


def repaired_text(text: str) -> str:
    """A text whose UTF-8 was read in an encoding of one byte per letter, read rightly.

    Whatever is not UTF-8 in that encoding is left as it is; texts that are by chance do not occur,
    since they would have to hold pairs such as a capital A with tilde and a copyright sign.
    """
    for _ in range(_ROUNDS):
        better = next(filter(None, map(_decoded_from, [text] * 2, ("cp1252", "latin-1"))), None)
        if better is None:
            break
        text = better
    return text


def caption_key(text: str) -> str:
    """What two captions have in common that read the same."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".!")


def _decoded_from(text: str, encoding: str) -> str | None:
    if text.isascii():
        return None
    try:
        return text.encode(encoding).decode("utf-8")
    except UnicodeError:
        return None
