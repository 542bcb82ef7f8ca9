"""Galleries: places and sizes of tiles, prompts and annotations where they belong."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from uniphd.visualization.canvas import LEFT, MASK, PROMPT, RIGHT
from uniphd.visualization.gallery import Tile, annotation_tile, gallery, person_tiles, prompt_tile

RED, GREEN = (200, 0, 0), (0, 200, 0)


def matches(image: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(image) == color).all(axis=2)


def test_tiles_stand_in_lines_in_their_order() -> None:
    tiles = [Tile(Image.new("RGB", (50, 50), color), "words") for color in (RED, GREEN, RED)]
    page = gallery(tiles, columns=2, panel=(50, 50))
    assert page.width == 2 * 50 + 3 * 12
    assert matches(page, RED).sum() == 2 * matches(page, GREEN).sum() == 2 * 50 * 50
    assert page.getpixel((20, 20)) == RED
    assert page.getpixel((80, 20)) == GREEN


def test_images_fill_their_panel_in_their_own_shape() -> None:
    page = gallery([Tile(Image.new("RGB", (10, 20), RED), "")], panel=(40, 60))
    rows, columns = np.nonzero(matches(page, RED))
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (20, 40)
    assert columns.min() == 12 + 20  # in the middle of the panel's 60 pixels


def test_a_box_is_drawn_where_it_is_in_the_image(make_person) -> None:
    image = Image.new("RGB", (200, 100))
    tile = prompt_tile(image, make_person(1, left=60), "box", panel=(200, 400))
    rows, columns = np.nonzero(matches(tile.rendered, PROMPT))
    assert tile.rendered.size == (400, 200)
    assert (columns.min(), columns.max()) == pytest.approx((120, 160), abs=2)
    assert (rows.min(), rows.max()) == pytest.approx((60, 140), abs=2)


def test_a_sentence_stands_below_the_untouched_image(make_person) -> None:
    image = Image.new("RGB", (200, 100), RED)
    tile = prompt_tile(image, make_person(1, 60, caption="in the middle"), "text", (100, 200))
    assert tile.text == "“in the middle”"
    assert matches(tile.rendered, RED).all()


def test_the_annotation_shows_mask_and_skeleton(drawn, rendered) -> None:
    tile = annotation_tile(rendered, drawn[0].annotations[0])
    assert all(matches(tile.rendered, color).sum() > 20 for color in (MASK, LEFT, RIGHT))


def test_a_person_has_a_prompt_of_every_kind_and_an_annotation(drawn, rendered) -> None:
    tiles = person_tiles(rendered, drawn[0].annotations[0])
    drawn_prompts = [matches(tile.rendered, PROMPT).sum() > 30 for tile in tiles[:-1]]
    assert drawn_prompts == [False, True, True, True, True]
    assert len(tiles) == 6


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs tiles and columns"):
        gallery([])
