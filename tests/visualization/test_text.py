"""Text broken into lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniphd.visualization.text import load_font, wrap_text

FONT = load_font(14)


@given(st.text(max_size=80), st.integers(20, 400))
def test_every_line_fits_and_nothing_is_lost(text: str, width: int) -> None:
    lines = wrap_text(text, FONT, width)
    assert all(FONT.getlength(line) <= width or len(line) == 1 for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(st.text(max_size=200), st.integers(40, 200), st.integers(1, 4))
def test_too_many_lines_end_with_an_ellipsis(text: str, width: int, max_lines: int) -> None:
    everything, limited = wrap_text(text, FONT, width), wrap_text(text, FONT, width, max_lines)
    assert len(limited) == min(len(everything), max_lines)
    assert all(FONT.getlength(line) <= width for line in limited)
    if len(everything) > max_lines:
        assert limited[:-1] == everything[: max_lines - 1]
        assert limited[-1].endswith("…")


def test_words_stay_whole_where_they_can() -> None:
    width = FONT.getlength("the tall woman")
    assert wrap_text("the tall woman with a dog", FONT, width) == ["the tall woman", "with a dog"]


@pytest.mark.parametrize("character", "éßЖλ…“·")
def test_font_has_the_characters_of_european_captions(character: str) -> None:
    missing = bytes(FONT.getmask("\U0010ffff"))
    assert bytes(FONT.getmask(character)) != missing
