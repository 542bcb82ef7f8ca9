"""Outlines of masks, drawn again by pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.refhuman_folder import decode
from uniphd.data.annotations import load_annotations
from uniphd.data.masks import encode_mask
from uniphd.datatools.show.outline import mask_outlines, simplify


def even_odd(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The mask of polygons by the even-odd rule; pycocotools draws each of them."""
    drawn = [decode(coco_mask.frPyObjects([p.flatten().tolist()], *size)[0]) for p in polygons]
    return np.sum(drawn, axis=0) % 2 == 1


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


def outlined(mask: np.ndarray, tolerance: float = 0.5) -> list[np.ndarray]:
    return mask_outlines(encode_mask(mask).encode(), mask.shape, tolerance)


def test_holes_and_several_pieces_are_kept() -> None:
    y, x = np.mgrid[:120, :160]
    ring = (np.hypot(x - 60, y - 60) < 40) & (np.hypot(x - 60, y - 60) > 15)
    mask = ring | ((np.abs(x - 130) < 12) & (np.abs(y - 40) < 20))
    polygons = outlined(mask)
    assert len(polygons) == 3
    assert iou(even_odd(polygons, mask.shape), mask) > 0.97
    assert sum(map(len, polygons)) < 80


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (30, 20)])
def test_whole_images_and_single_pixels(size: tuple[int, int]) -> None:
    (polygon,) = outlined(np.ones(size, dtype=bool))
    low, high = polygon.min(0), polygon.max(0)  # half a pixel of a corner may go
    np.testing.assert_allclose(
        [*low, *high], [0, 0, size[1], size[0]], atol=0.51
    )  # half a pixel of a corner may go


def test_small_pieces_are_left_out_unless_there_is_nothing_else() -> None:
    mask = np.zeros((200, 200), dtype=bool)
    mask[3, 4] = True
    assert len(outlined(mask, tolerance=2)) == 1
    mask[50:150, 60:120] = True
    assert len(outlined(mask, tolerance=2)) == 1
    assert outlined(mask, tolerance=2)[0].min() > 40
    assert outlined(np.zeros((5, 5), dtype=bool)) == []


def test_large_masks_are_thinned_out() -> None:
    y, x = np.ogrid[:1500, :1000]
    mask = ((x - 500) / 0.6) ** 2 + (y - 750) ** 2 < 700**2
    polygons = outlined(mask, tolerance=3.75)
    assert iou(even_odd(polygons, mask.shape), mask) > 0.98


def test_no_corner_is_farther_off_than_the_tolerance() -> None:
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radii = 50 + 8 * np.sin(7 * angles) + np.random.default_rng(0).normal(0, 0.5, 200)
    ring = np.column_stack([radii * np.cos(angles), radii * np.sin(angles)])
    few = simplify(ring, 1.5)
    assert 10 < len(few) < 60
    starts, ends = few, np.roll(few, -1, axis=0)
    along = ends - starts
    share = ((ring[:, None] - starts) * along).sum(-1) / (along**2).sum(-1)
    feet = starts + np.clip(share, 0, 1)[..., None] * along
    assert np.linalg.norm(ring[:, None] - feet, axis=-1).min(1).max() <= 1.5


def test_real_masks(refhuman_mini) -> None:
    for person in load_annotations(refhuman_mini / "RefHuman_val.json").instances:
        polygons = mask_outlines(person.counts, person.size, max(person.size) / 400)
        assert iou(even_odd(polygons, person.size), person.mask() == 1) > 0.85
