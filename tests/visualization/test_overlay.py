"""Masks and prompts: pixel facts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from uniphd.prompts import BoxPrompt, PointPrompt, ScribblePrompt, TextPrompt
from uniphd.visualization.canvas import MASK, PROMPT
from uniphd.visualization.overlay import add_caption, draw_mask, draw_prompt

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
    result = np.asarray(draw_mask(image, mask))
    np.testing.assert_array_equal(result[~mask], np.asarray(image)[~mask])


def test_inside_is_the_blend_of_image_and_colour(image, mask) -> None:
    result = np.asarray(draw_mask(image, mask, color=(10, 200, 30), opacity=0.25, contour=0))
    blend = 0.75 * np.asarray(image, float) + 0.25 * np.array((10, 200, 30))
    assert np.abs(result[mask] - blend[mask]).max() <= 1.5


def test_contour_is_solid_and_as_wide_as_asked(image, mask) -> None:
    result = np.asarray(draw_mask(image, mask, contour=3))
    solid = (result == MASK).all(axis=2)
    inner = np.zeros_like(mask)
    inner[33:77, 43:97] = True
    assert solid[mask & ~inner].all()
    assert not solid[inner].all()


def test_full_mask_has_no_contour_along_the_border(image) -> None:
    result = draw_mask(image, np.ones((120, 160), bool), opacity=0.0, contour=2)
    np.testing.assert_array_equal(np.asarray(result), np.asarray(image))


def test_empty_mask_changes_nothing(image) -> None:
    result = draw_mask(image, np.zeros((120, 160), bool))
    np.testing.assert_array_equal(np.asarray(result), np.asarray(image))


def test_image_of_one_pixel() -> None:
    image = Image.new("RGB", (1, 1), GREY)
    assert draw_mask(image, np.ones((1, 1), bool)).size == (1, 1)
    assert draw_prompt(image, PointPrompt(torch.tensor([0.5, 0.5]))).size == (1, 1)
    assert draw_prompt(image, TextPrompt("someone")).width == 1


def test_point_is_a_ringed_dot() -> None:
    image = Image.new("RGB", (220, 220), GREY)
    result = draw_prompt(image, PointPrompt(torch.tensor([60.0, 150.0])))
    assert result.getpixel((60, 150)) == PROMPT
    rows, columns = np.nonzero((np.asarray(result) != GREY).any(axis=2))
    assert (rows.min() + rows.max() + 1) / 2 == pytest.approx(150, abs=1)
    assert (columns.min() + columns.max() + 1) / 2 == pytest.approx(60, abs=1)


def test_scribble_passes_through_its_points() -> None:
    image = Image.new("RGB", (220, 220), GREY)
    points = torch.tensor([[20.0, 20.0], [120.0, 20.0], [120.0, 200.0]])
    result = draw_prompt(image, ScribblePrompt(points))
    on_stroke = [(20, 20), (70, 20), (120, 20), (120, 110), (120, 199)]
    assert {result.getpixel(point) for point in on_stroke} == {PROMPT}
    assert result.getpixel((70, 110)) == GREY  # the stroke is open


def test_scribble_of_one_point_is_visible() -> None:
    image = Image.new("RGB", (220, 220), GREY)
    assert (
        draw_prompt(image, ScribblePrompt(torch.tensor([[30.0, 40.0]]))).getpixel((30, 40))
        == PROMPT
    )


def test_box_is_a_frame() -> None:
    image = Image.new("RGB", (220, 220), GREY)
    result = draw_prompt(image, BoxPrompt(torch.tensor([20.0, 40.0, 120.0, 200.0])))
    assert {result.getpixel(p) for p in [(70, 40), (70, 200), (20, 90), (120, 90)]} == {PROMPT}
    assert result.getpixel((70, 120)) == GREY


def test_text_stands_above_the_untouched_image(image) -> None:
    result = draw_prompt(image, TextPrompt("the man in the red shirt"))
    strip = result.height - image.height
    assert result.width == image.width
    assert strip > 0
    np.testing.assert_array_equal(np.asarray(result)[strip:], np.asarray(image))
    assert (np.asarray(result)[:strip] == 255).any()


def test_strip_grows_until_a_long_text_fits(image) -> None:
    heights = [add_caption(image, "a word " * count).height for count in (1, 10, 100)]
    assert heights == sorted(set(heights))
    ink = np.asarray(add_caption(image, "m" * 500).convert("L"))[: -image.height] > 60
    assert not ink[:, :2].any()  # nothing touches the borders, where text would be cut off
    assert not ink[:, -2:].any()


def test_blank_caption_adds_nothing(image) -> None:
    assert add_caption(image, "  \n ").size == image.size
