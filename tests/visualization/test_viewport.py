"""Views: which region is shown, and that pixels, masks and points move together."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from uniphd.visualization.viewport import View, around, whole

NOBODY = (np.zeros((17, 2)), np.zeros(17, bool))


def rectangle(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((480, 640), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_whole_fits_the_panel() -> None:
    view = whole((480, 640), (360, 360))
    assert view.box == (0, 0, 640, 480)
    assert view.crop(Image.new("L", (640, 480))).size == (360, 270)


def test_small_person_fills_much_of_the_panel() -> None:
    view = around([rectangle(300, 200, 330, 260)], NOBODY, (360, 360))
    assert view.crop(Image.new("RGB", (640, 480))).size == (360, 360)
    assert 0.5 < 60 / view.height < 0.8
    x1, y1, x2, y2 = view.box
    assert x1 < 300 < 330 < x2
    assert y1 < 200 < 260 < y2


def test_region_holds_all_masks_and_visible_keypoints() -> None:
    keypoints, visible = np.zeros((17, 2)), np.zeros(17, bool)
    keypoints[3], visible[3] = (500, 100), True
    masks = [rectangle(300, 200, 330, 260), rectangle(200, 220, 240, 300)]
    x1, y1, x2, y2 = around(masks, (keypoints, visible), (360, 360)).box
    assert x1 <= 200
    assert x2 >= 500
    assert y1 <= 100
    assert y2 >= 300


def test_stray_pixels_do_not_widen_the_region() -> None:
    clean = around([rectangle(300, 200, 330, 260)], NOBODY, (360, 360))
    stray = rectangle(300, 200, 330, 260) | rectangle(5, 5, 7, 7)
    assert around([stray], NOBODY, (360, 360)).box == pytest.approx(clean.box, abs=5)


@pytest.mark.parametrize(
    "corner", [(0, 0, 40, 80), (600, 400, 640, 480), (0, 0, 640, 480), (0, 479, 1, 480)]
)
@pytest.mark.parametrize("panel", [(360, 360), (100, 400)])
def test_region_stays_inside_the_image(corner, panel) -> None:
    view = around([rectangle(*corner)], NOBODY, panel)
    x1, y1, x2, y2 = view.box
    assert 0 <= x1 < x2 <= 640
    assert 0 <= y1 < y2 <= 480
    width, height = view.crop(Image.new("RGB", (640, 480))).size
    assert width <= panel[1]
    assert height <= panel[0]


def test_nothing_to_show_shows_everything() -> None:
    assert around([np.zeros((480, 640), bool)], NOBODY, (360, 360)) == whole((480, 640), (360, 360))


def test_image_mask_and_points_move_together() -> None:
    mask = rectangle(310, 210, 320, 220)
    view = View(300.0, 200.0, 40.0, 30.0, 8.0)
    image = Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB")
    enlarged, enlarged_mask = np.asarray(view.crop(image))[..., 0] > 127, view.crop_mask(mask)
    assert enlarged.shape == enlarged_mask.shape == (240, 320)
    assert (enlarged == enlarged_mask).mean() > 0.999
    (x1, y1), (x2, y2) = view.map_points(np.array([(310.0, 210.0), (320.0, 220.0)]))
    assert (x1, y1, x2, y2) == (80, 80, 160, 160)
    assert enlarged_mask[int(y1) + 2 : int(y2) - 2, int(x1) + 2 : int(x2) - 2].all()
    assert enlarged_mask.sum() == pytest.approx(80 * 80, rel=0.02)
