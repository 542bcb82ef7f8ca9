"""Skeletons: where the pixels change, and in which colour."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from uniphd.keypoints import COCO17, CROWDPOSE14
from uniphd.visualization.canvas import CENTRE, LEFT, RIGHT
from uniphd.visualization.skeleton import line_width, render_skeleton

GREY = (128, 128, 128)


@pytest.fixture
def image() -> Image.Image:
    return Image.new("RGB", (200, 160), GREY)


@pytest.fixture
def keypoints() -> np.ndarray:
    """Seventeen points on a grid, 30 pixels apart."""
    return np.array([(20 + 30 * (i % 6), 20 + 40 * (i // 6)) for i in range(17)], float)


def only(*names: str) -> np.ndarray:
    return np.array([name in names for name in COCO17.names])


def changed(image: Image.Image, result: Image.Image) -> np.ndarray:
    """(H, W) bool, True where a pixel differs."""
    return (np.asarray(image) != np.asarray(result)).any(axis=2)


@pytest.mark.parametrize(
    ("name", "color"), [("left_wrist", LEFT), ("right_knee", RIGHT), ("nose", CENTRE)]
)
def test_joint_has_the_colour_of_its_side(image, keypoints, name, color) -> None:
    result = render_skeleton(image, keypoints, only(name))
    x, y = keypoints[COCO17.names.index(name)]
    assert result.getpixel((int(x), int(y))) == color
    rows, columns = np.nonzero(changed(image, result))
    assert np.hypot(rows + 0.5 - y, columns + 0.5 - x).max() < 5


def test_nothing_visible_changes_nothing(image, keypoints) -> None:
    assert not changed(image, render_skeleton(image, keypoints, np.zeros(17, bool))).any()


@pytest.mark.parametrize(
    ("ends", "color"),
    [
        (("left_hip", "left_knee"), LEFT),
        (("right_hip", "right_knee"), RIGHT),
        (("left_hip", "right_hip"), CENTRE),
    ],
)
def test_bone_has_the_colour_of_its_side(image, keypoints, ends, color) -> None:
    first, second = (COCO17.names.index(name) for name in ends)
    keypoints[first], keypoints[second] = (40, 80), (160, 80)
    result = render_skeleton(image, keypoints, only(*ends))
    assert result.getpixel((100, 80)) == color


def test_another_set_is_drawn_with_its_own_bones(image) -> None:
    keypoints = np.full((len(CROWDPOSE14), 2), 5.0)
    ends = [CROWDPOSE14.names.index(name) for name in ("top_head", "neck")]
    keypoints[ends] = (40, 80), (160, 80)
    visible = np.isin(np.arange(len(CROWDPOSE14)), ends)
    result = render_skeleton(image, keypoints, visible, CROWDPOSE14)
    assert result.getpixel((100, 80)) == CENTRE


def test_bone_needs_both_ends(image, keypoints) -> None:
    keypoints[11], keypoints[13] = (40, 80), (160, 80)
    result = render_skeleton(image, keypoints, only("left_hip"))
    assert result.getpixel((100, 80)) == GREY


def test_line_width_grows_with_the_person(keypoints) -> None:
    everything = np.ones(17, bool)
    assert line_width(keypoints * 4, everything) == pytest.approx(0.016 * 4 * 150)
    assert line_width(keypoints * 0.01, everything) == 1.5
    assert line_width(keypoints * 100, everything) == 12.0


def test_points_outside_or_not_finite_do_no_harm(image, keypoints) -> None:
    keypoints[5], keypoints[6], keypoints[7] = (np.nan, 3), (-1e4, 1e4), (np.inf, 0)
    visible = only("left_shoulder", "right_shoulder", "left_elbow")
    assert not changed(image, render_skeleton(image, keypoints, visible)).any()


def test_input_is_left_alone(image, keypoints) -> None:
    before = image.copy()
    render_skeleton(image, keypoints, np.ones(17, bool))
    assert not changed(before, image).any()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_any_image_becomes_rgb(keypoints, mode) -> None:
    result = render_skeleton(Image.new(mode, (1, 1)), keypoints, np.ones(17, bool))
    assert (result.mode, result.size) == ("RGB", (1, 1))
