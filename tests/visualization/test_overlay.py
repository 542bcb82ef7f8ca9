"""Masks and prompts: pixel facts."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from uniphd.visualization.canvas import MASK
from uniphd.visualization.overlay import render_mask

GREY = (128, 128, 128)


@pytest.fixture
def image() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((120, 160), bool)
    mask[30:80, 40:100] = True
    return mask


def test_pixels_outside_the_mask_are_unchanged(image, mask) -> None:
    result = np.asarray(render_mask(image, mask))
    np.testing.assert_array_equal(result[~mask], np.asarray(image)[~mask])


def test_inside_is_the_blend_of_image_and_colour(image, mask) -> None:
    result = np.asarray(render_mask(image, mask, color=(10, 200, 30), opacity=0.25, contour=0))
    blend = 0.75 * np.asarray(image, float) + 0.25 * np.array((10, 200, 30))
    assert np.abs(result[mask] - blend[mask]).max() <= 1.5


def test_contour_is_solid_and_as_wide_as_asked(image, mask) -> None:
    result = np.asarray(render_mask(image, mask, contour=3))
    solid = (result == MASK).all(axis=2)
    inner = np.zeros_like(mask)
    inner[33:77, 43:97] = True
    assert solid[mask & ~inner].all()
    assert not solid[inner].all()


def test_full_mask_has_no_contour_along_the_border(image) -> None:
    result = render_mask(image, np.ones((120, 160), bool), opacity=0.0, contour=2)
    np.testing.assert_array_equal(np.asarray(result), np.asarray(image))


def test_empty_mask_changes_nothing(image) -> None:
    result = render_mask(image, np.zeros((120, 160), bool))
    np.testing.assert_array_equal(np.asarray(result), np.asarray(image))


def test_image_of_one_pixel() -> None:
    image = Image.new("RGB", (1, 1), GREY)
    assert render_mask(image, np.ones((1, 1), bool)).size == (1, 1)
