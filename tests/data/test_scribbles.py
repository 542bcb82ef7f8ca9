"""Drawn strokes: inside of the mask, on a Bezier curve, the same for the same generator."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from uniphd.data.scribbles import bezier, draw_scribble, on_mask


def disc(height: int = 200, width: int = 160) -> np.ndarray:
    y, x = np.indices((height, width))
    return (((x - 80) ** 2 + (y - 100) ** 2) < 70**2).astype(np.uint8)


def ring() -> np.ndarray:
    image = Image.new("L", (300, 300))
    ImageDraw.Draw(image).ellipse((20, 20, 280, 280), outline=1, width=14)
    return np.array(image)


def lines() -> np.ndarray:
    mask = np.zeros((80, 80), np.uint8)
    mask[::4, :] = 1
    return mask


def de_casteljau(points: np.ndarray, t: float) -> np.ndarray:
    while len(points) > 1:
        points = points[:-1] + t * (points[1:] - points[:-1])
    return points[0]


def test_the_curve_is_de_casteljaus_at_the_kept_points() -> None:
    control = np.array([[3.0, 1.0], [40.0, 7.0], [-5.0, 30.0], [20.0, 55.0]])
    kept = [k * 100 // 12 / 100 for k in range(1, 13)]
    assert kept[-1] == 1
    expected = np.stack([de_casteljau(control, t) for t in kept])
    np.testing.assert_allclose(bezier(control), expected, atol=1e-9)


@pytest.mark.parametrize("mask", [disc(), ring(), lines(), np.ones((60, 40), np.uint8)])
def test_strokes_are_twelve_pixels_of_the_mask(mask: np.ndarray) -> None:
    for number in range(20):
        stroke = draw_scribble(mask, Random(number))
        assert stroke.shape == (12, 2)
        assert (stroke == np.floor(stroke)).all()
        x, y = stroke.astype(int).T
        assert (mask[y, x] == 1).all()


@given(arrays.arrays(np.uint8, (23, 31), elements=st.integers(0, 1)), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_any_mask_with_a_pixel_has_a_stroke(mask: np.ndarray, seed: int) -> None:
    mask[11, 17] = 1
    assert on_mask(draw_scribble(mask, Random(seed)), mask)


def test_control_points_come_from_the_eroded_mask() -> None:
    mask = np.zeros((120, 120), np.uint8)
    mask[20:100, 20:100] = 1
    ends = np.array([draw_scribble(mask, Random(number))[-1] for number in range(100)])
    # The last point is a control point; a square of 10 takes 5 pixels at one side, 4 at the other.
    assert ends.min() >= 24
    assert ends.max() <= 95
    assert ends.min() < 32


def test_the_images_border_does_not_erode() -> None:
    mask = np.ones((40, 12), np.uint8)
    ends = np.array([draw_scribble(mask, Random(number))[-1] for number in range(200)])
    assert ends[:, 0].min() == 0
    assert ends[:, 0].max() == 11


def test_a_mask_without_room_gets_its_deepest_pixel() -> None:
    mask = np.zeros((50, 50), np.uint8)
    mask[20:25, 30:35] = 1
    mask[0, :6] = 1
    stroke = draw_scribble(mask, Random(0))
    np.testing.assert_array_equal(stroke, np.tile([32, 22], (12, 1)))


def test_strokes_differ_by_the_generator_alone() -> None:
    first, again, other = (draw_scribble(disc(), Random(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("point", [(-1, 5), (5, -1), (160, 5), (5, 200), (0, 0)])
def test_points_off_the_mask_are_seen(point: tuple[int, int]) -> None:
    assert on_mask(np.array([[80.9, 100.9]]), disc())
    assert not on_mask(np.array([[80.0, 100.0], point]), disc())
