"""Contact sheets: size, content, and rows that are hard to draw."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from uniphd.prompts import BoxPrompt, MaskPrompt, PointPrompt, ScribblePrompt, TextPrompt
from uniphd.visualization.canvas import LEFT, MASK, PROMPT, RIGHT
from uniphd.visualization.contact_sheet import Body, Row, contact_sheet

PROMPTS = {
    "text": TextPrompt("the person in the middle"),
    "point": PointPrompt(torch.tensor([150.0, 100.0])),
    "scribble": ScribblePrompt(torch.tensor([[140.0, 80.0], [150.0, 100.0], [160.0, 140.0]])),
    "box": BoxPrompt(torch.tensor([120.0, 50.0, 180.0, 170.0])),
    "mask": MaskPrompt(torch.nn.functional.pad(torch.ones(90, 40).bool(), (130, 130, 60, 50))),
}
IMAGE, PREDICTION = slice(28, 508), slice(520, 880)  # columns of the first two panels
PANEL_ROWS = slice(52, 412)


@pytest.fixture
def body() -> Body:
    mask = np.zeros((200, 300), bool)
    mask[50:170, 120:180] = True
    keypoints = np.array([(125 + 3 * i, 60 + 6 * i) for i in range(17)], float)
    return Body(keypoints, np.ones(17, bool), mask)


@pytest.fixture
def row(body: Body) -> Row:
    rendered = Image.new("RGB", (300, 200), (90, 110, 100))
    return Row("image.jpg", rendered, PROMPTS["point"], body, body, 0.875, 0.5, 0.25)


def pixels(sheet: Image.Image, columns: slice) -> np.ndarray:
    """(n, 3) pixels of a panel in the first row."""
    return np.asarray(sheet)[PANEL_ROWS, columns].reshape(-1, 3)


def count(found: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((found == color).all(axis=1).sum())


def empty(body: Body) -> Body:
    return Body(body.keypoints, np.zeros(17, bool), np.zeros_like(body.mask))


def test_prediction_and_prompt_are_drawn_in_their_panels(row, body) -> None:
    sheet = contact_sheet([dataclasses.replace(row, annotation=empty(body))])
    rendered, prediction = pixels(sheet, IMAGE), pixels(sheet, PREDICTION)
    annotation = pixels(sheet, slice(892, 1252))
    assert count(rendered, PROMPT) > 50
    assert count(rendered, MASK) == 0
    assert min(count(prediction, color) for color in (MASK, LEFT, RIGHT)) > 50
    assert count(prediction, PROMPT) == 0
    assert max(count(annotation, color) for color in (MASK, LEFT, RIGHT)) == 0


@pytest.mark.parametrize("kind", ["point", "scribble", "box", "mask"])
def test_drawn_prompts_appear_on_the_image(row, kind) -> None:
    sheet = contact_sheet([dataclasses.replace(row, prompt=PROMPTS[kind])])
    assert count(pixels(sheet, IMAGE), PROMPT) > 50


def test_text_prompt_leaves_the_image_unmarked(row) -> None:
    sheet = contact_sheet([dataclasses.replace(row, prompt=PROMPTS["text"])])
    assert count(pixels(sheet, IMAGE), PROMPT) == 0


def test_size_is_a_grid(row) -> None:
    single, pair, tall = (contact_sheet(*args) for args in ([[row]], [[row] * 2], [[row] * 3]))
    assert single.width == pair.width == 1280
    assert tall.height - pair.height == pair.height - single.height > 360
    wide = contact_sheet([row] * 3, columns=2)  # the last line has one row
    assert wide.size == (2 * single.width, pair.height)


def test_columns_beyond_the_rows_are_not_left_empty(row) -> None:
    assert contact_sheet([row], columns=4).size == contact_sheet([row]).size


def test_long_captions_make_the_row_taller_up_to_a_limit(row) -> None:
    def height(text: str) -> int:
        return contact_sheet([dataclasses.replace(row, prompt=TextPrompt(text))]).height

    assert height("word") < height("word " * 30) < height("word " * 200) == height("word " * 9000)


@pytest.mark.parametrize("text", ["Éloïse à Zürich, Ωμέγα, Жанна", "左边的女人 👩", "x" * 3000])
def test_any_caption_can_be_drawn(row, text) -> None:
    sheet = contact_sheet([dataclasses.replace(row, title=text, prompt=TextPrompt(text))])
    assert sheet.width == contact_sheet([row]).width


def test_rows_without_anything_to_show(row, body) -> None:
    nothing = dataclasses.replace(
        row, prediction=empty(body), annotation=empty(body), iou=None, oks=None
    )
    prediction = pixels(contact_sheet([nothing]), PREDICTION)
    assert {tuple(color) for color in np.unique(prediction, axis=0)} == {
        (90, 110, 100),
        (236, 238, 241),
    }


def test_image_of_one_pixel(row) -> None:
    body = Body(np.zeros((17, 2)), np.ones(17, bool), np.ones((1, 1), bool))
    tiny = dataclasses.replace(
        row, image=Image.new("L", (1, 1)), prediction=body, annotation=body, prompt=PROMPTS["text"]
    )
    assert contact_sheet([tiny]).width == 1280


def test_no_rows_or_columns_is_an_error(row) -> None:
    with pytest.raises(ValueError, match="needs rows and columns"):
        contact_sheet([])
    with pytest.raises(ValueError, match="needs rows and columns"):
        contact_sheet([row], columns=0)
