"""Prompts drawn on an image: where they are, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from uniphd.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt, ScribblePrompt, TextPrompt
from uniphd.visualization.canvas import PROMPT

GREY = (120, 120, 120)


def test_point_is_a_ringed_dot() -> None:
    image = Image.new("RGB", (220, 220), GREY)
    result = PointPrompt(torch.tensor([60.0, 150.0])).render(image)
    assert result.getpixel((60, 150)) == PROMPT
    rows, columns = np.nonzero((np.asarray(result) != GREY).any(axis=2))
    assert (rows.min() + rows.max() + 1) / 2 == pytest.approx(150, abs=1)
    assert (columns.min() + columns.max() + 1) / 2 == pytest.approx(60, abs=1)


def test_scribble_passes_through_its_points() -> None:
    image = Image.new("RGB", (220, 220), GREY)
    points = torch.tensor([[20.0, 20.0], [120.0, 20.0], [120.0, 200.0]])
    result = ScribblePrompt(points).render(image)
    on_stroke = [(20, 20), (70, 20), (120, 20), (120, 110), (120, 199)]
    assert {result.getpixel(point) for point in on_stroke} == {PROMPT}
    assert result.getpixel((70, 110)) == GREY  # the stroke is open


def test_scribble_of_one_point_is_visible() -> None:
    image = Image.new("RGB", (220, 220), GREY)
    result = ScribblePrompt(torch.tensor([[30.0, 40.0]])).render(image)
    assert result.getpixel((30, 40)) == PROMPT


def test_box_is_a_frame() -> None:
    image = Image.new("RGB", (220, 220), GREY)
    result = BoxPrompt(torch.tensor([20.0, 40.0, 120.0, 200.0])).render(image)
    assert {result.getpixel(p) for p in [(70, 40), (70, 200), (20, 90), (120, 90)]} == {PROMPT}
    assert result.getpixel((70, 120)) == GREY


def test_mask_is_tinted_and_outlined() -> None:
    image = Image.new("RGB", (220, 220), GREY)
    mask = torch.zeros(220, 220, dtype=torch.bool)
    mask[40:200, 20:120] = True
    result = np.asarray(MaskPrompt(mask).render(image))
    changed = (result != GREY).any(axis=2)
    np.testing.assert_array_equal(changed, mask.numpy())
    assert tuple(result[40, 20]) == PROMPT
    assert tuple(result[120, 70]) != PROMPT


def test_text_leaves_the_image_alone_and_is_described() -> None:
    image = Image.new("RGB", (40, 30), GREY)
    prompt = TextPrompt("the man in the red shirt")
    np.testing.assert_array_equal(np.asarray(prompt.render(image)), np.asarray(image))
    assert prompt.describe() == "“the man in the red shirt”"
    assert PointPrompt(torch.tensor([1.0, 2.0])).describe() == "point prompt"


@pytest.mark.parametrize(
    "prompt",
    [
        TextPrompt("someone"),
        PointPrompt(torch.tensor([0.5, 0.5])),
        ScribblePrompt(torch.tensor([[0.5, 0.5]])),
        BoxPrompt(torch.tensor([0.0, 0.0, 1.0, 1.0])),
        MaskPrompt(torch.ones(1, 1, dtype=torch.bool)),
    ],
)
def test_an_image_of_one_pixel_and_one_channel(prompt: Prompt) -> None:
    rendered = prompt.render(Image.new("L", (1, 1)))
    assert rendered.size == (1, 1)
    assert rendered.mode == "RGB"
