"""Scenes: masks, keypoints and colours against the image."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage

from uniphd.errors import ConfigError
from uniphd.keypoints import COCO17
from uniphd.synthetic.appearance import COLORS
from uniphd.synthetic.layers import REGIONS
from uniphd.synthetic.layout import SPLITS
from uniphd.synthetic.scene import Person, SceneConfig, SyntheticScene, render_scene

SHOULDERS, HIPS = (5, 6), (11, 12)


def people(scenes: list[SyntheticScene]) -> list[Person]:
    return [person for scene in scenes for person in scene.people]


def test_the_same_arguments_give_the_same_scene_and_others_another() -> None:
    first, again = (render_scene(SceneConfig(seed=2), "val", 7) for _ in range(2))
    assert (first.image == again.image).all()
    for person, same in zip(first.people, again.people, strict=True):
        assert person.traits == same.traits
        assert person.captions == same.captions
        assert (person.keypoints == same.keypoints).all()
        assert (person.mask == same.mask).all()
    for other in (
        render_scene(SceneConfig(seed=3), "val", 7),
        render_scene(SceneConfig(seed=2), "train", 7),
        render_scene(SceneConfig(seed=2), "val", 8),
    ):
        assert (first.image != other.image).mean() > 0.5


def test_everybody_shows(scenes: list[SyntheticScene]) -> None:
    assert {len(scene.people) for scene in scenes} == {2, 3, 4}
    assert min(person.mask.sum() for person in people(scenes)) >= 50
    shares = [person.mask.mean() for person in people(scenes)]
    assert 0.02 < np.median(shares) < 0.2


def test_masks_are_disjoint_and_together_what_is_drawn(scenes: list[SyntheticScene]) -> None:
    for scene in scenes:
        masks = [person.mask for person in scene.people]
        assert max((first & second).sum() for first, second in combinations(masks, 2)) == 0
        owners = scene.layers.owners[scene.layers.labels]
        covered = sum((owners[y::2, x::2] > 0).astype(int) for y in (0, 1) for x in (0, 1))
        union = np.any(masks, axis=0)
        assert union[covered == 4].mean() > 0.98  # but where several people meet in a pixel
        assert not union[covered < 2].any()


def test_masks_differ_from_the_background_in_the_image(scenes: list[SyntheticScene]) -> None:
    """The annotated shape is the drawn one: its border is where the image has edges."""
    gains = []
    for scene in scenes:
        grey = ndimage.gaussian_filter(scene.image.astype(float).mean(-1), 1)
        edges = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1))
        mask = np.any([person.mask for person in scene.people], axis=0)
        border = mask ^ ndimage.binary_erosion(mask)
        away = ~ndimage.binary_dilation(mask, iterations=4)
        gains.append(edges[border].mean() / edges[away].mean())
    assert np.median(gains) > 3


def test_visible_keypoints_are_on_the_mask_and_missing_ones_are_zero(
    scenes: list[SyntheticScene],
) -> None:
    seen = np.zeros(3, dtype=int)
    for person in people(scenes):
        height, width = person.mask.shape
        grown = ndimage.binary_dilation(person.mask, np.ones((3, 3)))
        for x, y, v in person.keypoints.tolist():
            seen[int(v)] += 1
            if v == 2:
                assert grown[int(y), int(x)]
            elif v == 1:
                assert 0 <= x < width
                assert 0 <= y < height
            else:
                assert (x, y) == (0, 0)
    assert (seen > 20).all()  # all three kinds occur
    assert seen[2] > seen[1] > seen[0]


def test_a_keypoint_on_another_person_is_hidden(scenes: list[SyntheticScene]) -> None:
    covered = 0
    for scene in scenes:
        for person in scene.people:
            others = [other.mask for other in scene.people if other is not person]
            inside = ndimage.binary_erosion(np.any(others, axis=0))
            for x, y, v in person.keypoints.tolist():
                if v > 0 and inside[int(y), int(x)]:
                    covered += 1
                    assert v == 1
    assert covered > 30


def test_left_is_the_persons_left(scenes: list[SyntheticScene]) -> None:
    front = back = 0
    for person in people(scenes):
        points = person.keypoints
        for left, right in (SHOULDERS, HIPS):
            if min(points[left, 2], points[right, 2]) == 0:
                continue
            if person.traits.facing < 45:
                front += 1
                assert points[left, 0] > points[right, 0]
            elif person.traits.facing > 140:
                back += 1
                assert points[left, 0] < points[right, 0]
    assert front > 50
    assert back > 10


def test_faces_show_from_the_front_alone(scenes: list[SyntheticScene]) -> None:
    behind = [person for person in people(scenes) if person.traits.facing > 165]
    assert behind
    assert all((person.keypoints[:3, 2] < 2).all() for person in behind)
    front = [person for person in people(scenes) if person.traits.facing < 20]
    assert np.mean([person.keypoints[0, 2] == 2 for person in front]) > 0.8


def test_limbs_have_human_lengths(scenes: list[SyntheticScene]) -> None:
    """No foreshortened limb exceeds the longest it can be, measured by the person's trunk."""
    index = {name: place for place, name in enumerate(COCO17.names)}
    limbs = {
        ("shoulder", "elbow"): 0.85,
        ("elbow", "wrist"): 0.75,
        ("hip", "knee"): 1.1,
        ("knee", "ankle"): 1.1,
    }
    longest = dict.fromkeys(limbs, 0.0)
    for person in people(scenes):
        points = person.keypoints
        if points[[*SHOULDERS, *HIPS], 2].min() == 0:
            continue
        trunk = np.linalg.norm(points[[5, 6], :2].mean(0) - points[[11, 12], :2].mean(0))
        for limb in limbs:
            for side in ("left", "right"):
                start, end = (points[index[f"{side}_{joint}"]] for joint in limb)
                if min(start[2], end[2]) > 0:
                    length = float(np.linalg.norm(start[:2] - end[:2]) / trunk)
                    longest[limb] = max(longest[limb], length)
    for limb, limit in limbs.items():
        assert 0.4 * limit < longest[limb] < limit


def test_garments_look_like_their_colour(
    scenes: list[SyntheticScene], unseen_scenes: list[SyntheticScene]
) -> None:
    """The middle colour of the pixels is nearest to the named one in some amount of light."""
    names = list(COLORS)
    lights = np.linspace(0.55, 1.2, 14)[:, None, None]
    palette = lights * np.array([COLORS[name] for name in names])  # (light, colour, channel)
    right = total = 0
    for scene in scenes + unseen_scenes:
        regions = scene.layers.regions[scene.layers.labels]
        parts = [regions[row::2, column::2] for row in (0, 1) for column in (0, 1)]
        uniform = np.all([part == parts[0] for part in parts], axis=0)  # all of a pixel
        for person in scene.people:
            for garment, name in (
                ("shirt", person.traits.appearance.shirt),
                ("bottom", person.traits.appearance.bottom),
            ):
                if garment not in person.traits.visible:
                    continue
                pixels = scene.image[person.mask & uniform & (parts[0] == REGIONS.index(garment))]
                distances = np.linalg.norm(palette - np.median(pixels, axis=0), axis=-1).min(0)
                nearest = int(distances.argmin())
                total += 1
                right += names[nearest] == name
    assert total > 300
    assert right / total > 0.97


def test_a_nearer_person_stands_lower(scenes: list[SyntheticScene]) -> None:
    signs = []
    for scene in scenes:
        depths = [person.traits.depth for person in scene.people]
        assert depths == sorted(depths)
        far, near = scene.people[0], scene.people[-1]
        if near.traits.depth - far.traits.depth > 0.3:
            bottoms = [np.flatnonzero(person.mask.any(1))[-1] for person in (far, near)]
            signs.append(bottoms[1] >= bottoms[0])
    assert np.mean(signs) > 0.9


@pytest.mark.parametrize("size", [(160, 96), (480, 640), (96, 96)])
def test_other_sizes(size: tuple[int, int]) -> None:
    scene = render_scene(SceneConfig(size=size), "train", 0)
    assert scene.image.shape == (*size, 3)
    assert scene.image.dtype == np.uint8
    for person in scene.people:
        assert person.mask.shape == size
        assert person.mask.mean() > 0.003
        points = person.keypoints[person.keypoints[:, 2] > 0]
        assert (points[:, :2] < size[::-1]).all()


def test_many_people() -> None:
    scene = render_scene(SceneConfig(size=(128, 256), people=(6, 6)), "train", 0)
    assert len(scene.people) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "The seed is -1"),
        ({"size": (32, 128)}, "128 x 32 pixels are too small"),
        ({"people": (1, 3)}, "1 to 3 people"),
        ({"people": (4, 3)}, "4 to 3 people"),
        ({"people": (2, 99)}, "2 to 99 people"),
    ],
)
def test_configs_that_cannot_be_drawn(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SceneConfig(**settings)  # type: ignore[arg-type]


def test_scenes_are_those_of_every_release() -> None:
    """Pixels of masks, keypoints and sentences; published numbers depend on them."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for person in render_scene(SceneConfig(), split, 0).people:
            digest.update(person.mask.tobytes() + person.keypoints.tobytes())
            digest.update("\n".join(caption.text for caption in person.captions).encode())
    assert digest.hexdigest()[:16] == "d3878071c80fbc91"
