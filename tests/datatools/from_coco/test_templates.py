"""A caption by place and size holds for exactly one person of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.datatools.from_coco.coco_file import person, write_coco
from uniphd.datatools.from_coco.people import read_people
from uniphd.datatools.from_coco.templates import describe_places, template_captions

LEFT, RIGHT = "the leftmost person", "the rightmost person"
MIDDLE, LARGEST = "the person in the middle", "the largest person"


def described(*people: tuple[float, float, float]) -> list[set[str]]:
    """Captions of people (x, width, area) in an image 100 pixels wide."""
    boxes = np.array([(x, 0, width, 10) for x, width, _ in people], dtype=np.float64)
    areas = np.array([area for *_, area in people], dtype=np.float64)
    return [set(texts) for texts in describe_places(boxes, areas, 100)]


def test_two_people() -> None:
    first, second = described((5, 20, 100), (60, 20, 150))
    assert LEFT in first
    assert "the person on the far left" in first
    assert RIGHT in second
    assert LARGEST in second
    assert described((5, 20, 100), (60, 20, 149))[1] == {RIGHT, "the person on the far right"}


def test_somebody_alone() -> None:
    assert described((5, 20, 100)) == [{"the person"}]


def test_the_middle_one_of_three() -> None:
    assert MIDDLE in described((70, 10, 1), (40, 10, 1), (5, 10, 1))[1]
    assert not any(MIDDLE in texts for texts in described((70, 10, 1), (66, 10, 1), (5, 10, 1)))
    assert not any(MIDDLE in t for t in described((0, 5, 1), (30, 5, 1), (60, 5, 1), (90, 5, 1)))


def test_nobody_is_leftmost_who_is_nearly_so() -> None:
    assert not any(LEFT in texts for texts in described((5, 20, 1), (10, 20, 1), (60, 9, 1)))
    wide = described((0, 80, 1), (10, 10, 1))  # whose box begins further left has its centre right
    assert not any(LEFT in texts for texts in wide)


def test_unknown_boxes_say_nothing() -> None:
    assert described((5, 20, 100), (float("nan"), 20, 100)) == [set(), set()]


people = st.tuples(st.floats(0, 80), st.floats(1, 20), st.floats(1, 1000))


@given(st.lists(people, min_size=1, max_size=8))
def test_no_caption_fits_two(drawn: list[tuple[float, float, float]]) -> None:
    texts = [text for person in described(*drawn) for text in person]
    assert len(texts) == len(set(texts))


def test_an_image_with_a_crowd_gets_none(tmp_path: Path) -> None:
    crowd = {"segmentation": {"size": [80, 100], "counts": [8000]}, "iscrowd": 1}
    left, right = (5, 10, 20, 40), (70, 10, 20, 40)
    everybody = [person(10, 1, left), person(11, 1, right, **crowd), person(20, 2, left)]
    coco = read_people(write_coco(tmp_path, everybody))
    assert template_captions(coco, np.arange(3)) == {20: ("the person",)}
