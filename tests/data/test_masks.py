"""Masks: three notations against pycocotools, and notations that would crash it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from tests.refhuman_folder import decode
from uniphd.data.masks import (
    decode_segmentation,
    encode_segmentation,
    mask_area,
    mask_contains,
    run_lengths,
)

masks = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1)
)


def compressed(mask: np.ndarray) -> dict[str, Any]:
    runs = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": runs["counts"].decode()}


def runs_by_hand(mask: np.ndarray) -> list[int]:
    runs, value, length = [], 0, 0
    for pixel in mask.T.flatten().tolist():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    return [*runs, length]


@given(masks)
@settings(deadline=None, max_examples=60)
def test_both_run_length_notations_give_the_mask_back(mask: np.ndarray) -> None:
    size = mask.shape
    uncompressed = {"size": list(size), "counts": runs_by_hand(mask)}
    for segmentation in (compressed(mask), uncompressed):
        counts = encode_segmentation(segmentation, size)
        np.testing.assert_array_equal(decode_segmentation(counts, size), mask)
        np.testing.assert_array_equal(run_lengths(counts), runs_by_hand(mask))


@given(masks)
@settings(deadline=None, max_examples=60)
def test_area_and_membership_without_drawing(mask: np.ndarray) -> None:
    runs = run_lengths(encode_segmentation(compressed(mask), mask.shape))
    y, x = np.indices(mask.shape)
    assert mask_area(runs) == mask.sum()
    np.testing.assert_array_equal(mask_contains(runs, mask.shape[0], x, y), mask == 1)


def test_long_and_shrinking_runs_take_several_characters_and_signs() -> None:
    columns = [0] * 400 + [1] * 300 + [0] * 120 + [1] * 50 + [0] * 3 + [1] * 27
    mask = np.tile(np.array(columns, np.uint8), (700, 1))
    counts = encode_segmentation(compressed(mask), mask.shape)
    assert run_lengths(counts).tolist() == [700 * width for width in (400, 300, 120, 50, 3, 27)]


def test_polygons_are_united_as_pycocotools_does() -> None:
    polygons = [[2, 2, 20, 2, 20, 15, 2, 15], [10.5, 10, 30, 10.25, 30, 28, 10, 28]]
    expected = decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 32, 40)))
    counts = encode_segmentation(polygons, (32, 40))
    np.testing.assert_array_equal(decode_segmentation(counts, (32, 40)), expected)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ([], "no polygon"),
        ([[]], "0 numbers"),
        ([[1, 2, 3, 4]], "4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "7 numbers"),
        ([[1, 2, 3, 4, 5, "6"]], "not a list of numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "NaN"),
        ([[1e9, 1, 2, 2, 3, 3]], "far outside"),
        ({"size": [20, 30], "counts": [601]}, "add up"),
        ({"size": [20, 30], "counts": [700, -100]}, "add up"),
        ({"size": [20, 30], "counts": [1.5, 598.5]}, "neither a string"),
        ({"size": [20, 30]}, "neither a string"),
        ({"size": [30, 20], "counts": [600]}, "size"),
        ({"counts": [600]}, "size"),
        ({"size": [20, 30], "counts": ""}, "compressed run lengths"),
        ({"size": [20, 30], "counts": "garbage!!"}, "compressed run lengths"),
        ({"size": [20, 30], "counts": "ooooooooooooo"}, "compressed run lengths"),
        ({"size": [20, 30], "counts": "é"}, "add up"),
        ({"size": [20, 30], "counts": "11111"}, "add up"),
        ("1111", "neither a list"),
        (None, "neither a list"),
    ],
)
def test_what_pycocotools_must_not_see_is_refused(segmentation: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        encode_segmentation(segmentation, (20, 30))


def test_outlines_that_would_fill_the_memory_are_refused() -> None:
    zigzag = [value for number in range(4_000) for value in (600 * (number % 2), number % 400)]
    with pytest.raises(ValueError, match="outlines are longer"):
        encode_segmentation([zigzag], (480, 640))


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        (
            [30, 20],
            r"is for the size \[30, 20\], not .* \[20, 30\], with height and width exchanged$",
        ),
        ([40, 60], r"is for the size \[40, 60\], not for that of the image, \[20, 30\]$"),
        (None, r"is for the size None, not"),
    ],
)
def test_run_lengths_of_another_size_say_which(stated: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        encode_segmentation({"size": stated, "counts": [600]}, (20, 30))
