"""Preprocessing: its sizes, what it may lose, and where its random numbers come from."""

from __future__ import annotations

import random as global_random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.data.images import read_image
from uniphd.data.sample import AnnotatedImage, AnnotatedPerson, annotate
from uniphd.data.transforms import EvaluationTransform, TrainingTransform
from uniphd.errors import ConfigError


@pytest.fixture
def annotated(folder: Path, people: tuple[ReferredPerson, ...]) -> AnnotatedImage:
    """The left one of two drawn people in an image of about 160 x 120."""
    person = replace(people[0], other_captions=("the leftmost", "he"))
    return annotate(read_image(folder / "images" / person.file_name), [person])


SMALL: dict[str, Any] = {
    "scales": (64, 80, 96),
    "max_size": 120,
    "crop_scales": (80, 100),
    "crop_size": (50, 90),
}


def only(annotated: AnnotatedImage) -> AnnotatedPerson:
    """The one person of an image."""
    (person,) = annotated.people
    return person


def same(first: AnnotatedImage, second: AnnotatedImage) -> bool:
    tensors = ("box", "keypoints", "visibility", "scribbles", "mask")
    one, other = only(first), only(second)
    return (
        first.image.tobytes() == second.image.tobytes()
        and one.caption == other.caption
        and one.area == other.area
        and all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)
    )


def test_evaluation_keeps_within_the_longest_side(annotated: AnnotatedImage) -> None:
    width, height = annotated.image.size
    resized = EvaluationTransform()(annotated, Random(0))
    assert resized.size == (
        round(640 * height / width),
        int(round(640 * height / width) * width / height),
    )
    small = EvaluationTransform(size=48, max_size=1000)(annotated, Random(0))
    assert small.size == (48, int(48 * width / height))


def test_evaluation_is_not_random(annotated: AnnotatedImage) -> None:
    transform = EvaluationTransform()
    assert same(transform(annotated, Random(0)), transform(annotated, Random(1)))


def test_training_depends_on_its_generator_alone(annotated: AnnotatedImage) -> None:
    transform = TrainingTransform(**SMALL)
    first = [transform(annotated, Random(number)) for number in range(6)]
    global_random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    second = [transform(annotated, Random(number)) for number in range(6)]
    assert all(map(same, first, second))
    assert not all(same(first[0], other) for other in first[1:])


def test_training_leaves_its_input_alone(annotated: AnnotatedImage) -> None:
    before = annotate(annotated.image.copy(), [_person_like(annotated)])
    for number in range(10):
        TrainingTransform(**SMALL)(annotated, Random(number))
    assert torch.equal(only(before).mask, only(annotated).mask)
    assert torch.equal(only(before).keypoints, only(annotated).keypoints)
    assert before.image.tobytes() == annotated.image.tobytes()


def _person_like(annotated: AnnotatedImage) -> ReferredPerson:
    person = only(annotated)
    runs = coco_mask.encode(np.asfortranarray(person.mask[0].numpy()))
    x1, y1, x2, y2 = person.box[0].tolist()
    return ReferredPerson(
        image_id=1, annotation_id=1, file_name="", height=person.size[0], width=person.size[1],
        caption=person.caption, bbox=(x1, y1, x2 - x1, y2 - y1), area=person.area,
        keypoints=np.column_stack([person.keypoints, person.visibility * 2]).astype(np.float32),
        counts=runs["counts"], scribbles=person.scribbles.numpy().astype(np.int32),
    )  # fmt: skip


def test_training_draws_every_scale_and_flips_and_crops_half_of_the_time(
    annotated: AnnotatedImage,
) -> None:
    transform = TrainingTransform(**{**SMALL, "max_size": 1000})
    results = [transform(annotated, Random(number)) for number in range(300)]
    assert Counter(min(result.size) for result in results).keys() == {64, 80, 96}
    flipped = sum("left" not in only(result).caption for result in results)
    assert all(
        ("left" in only(result).caption) == (only(result).other_captions == ("the leftmost", "he"))
        for result in results
    )
    assert 120 < flipped < 180
    width, height = annotated.image.size
    full = [result for result in results if result.size == _full_size(result, width, height)]
    assert 110 < len(full) < 190


def _full_size(result: AnnotatedImage, width: int, height: int) -> tuple[int, int]:
    shorter_side = min(result.size)
    return shorter_side, int(shorter_side * width / height)


def test_every_training_scene_shows_its_person(annotated: AnnotatedImage) -> None:
    transform = TrainingTransform(**{**SMALL, "crop_size": (20, 40), "crop_probability": 1.0})
    lost = 0
    for number in range(60):
        result = transform(annotated, Random(number))
        assert only(result).is_shown
        inside = only(result).keypoints[only(result).visibility]
        height, width = result.size
        assert (inside >= 0).all()
        assert (inside < torch.tensor([width, height])).all()
        lost += int(only(annotated).visibility.sum() - only(result).visibility.sum())
    assert lost > 0


def test_a_person_that_every_crop_loses_stays_uncropped(annotated: AnnotatedImage) -> None:
    hidden = annotate(annotated.image, [_person_like(annotated)])
    only(hidden).visibility[:] = False  # no crop shows a labelled keypoint
    transform = TrainingTransform(**{**SMALL, "crop_probability": 1.0, "flip_probability": 0.0})
    width, height = annotated.image.size
    for number in range(5):
        result = transform(hidden, Random(number))
        assert result.size[1] / result.size[0] == pytest.approx(width / height, rel=0.05)


def test_the_official_sizes_are_the_defaults() -> None:
    person = np.zeros((17, 3), np.float32)
    person[0] = (300, 200, 2)
    record = ReferredPerson(
        image_id=1, annotation_id=1, file_name="", height=427, width=640, caption="a man",
        bbox=(200.0, 100.0, 200.0, 200.0), area=40_000.0, keypoints=person,
        counts=_rectangle(427, 640), scribbles=np.full((5, 12, 2), 250, np.int32),
    )  # fmt: skip
    annotated = annotate(Image.new("RGB", (640, 427)), [record])
    transform = TrainingTransform()
    for number in range(40):
        height, width = transform(annotated, Random(number)).size
        assert max(height, width) <= 640
        scales = {360, 392, 416, 480, 512, 544, 576, 608, 640}
        assert min(height, width) in scales or max(height, width) >= 639


def _rectangle(height: int, width: int) -> bytes:
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[100:300, 200:400] = 1
    return bytes(coco_mask.encode(mask)["counts"])


@pytest.mark.parametrize("turned", [False, True])
def test_a_panorama_is_not_enlarged_without_limit(
    people: tuple[ReferredPerson, ...], turned: bool
) -> None:
    size = (30_000, 10) if turned else (10, 30_000)
    mask = np.zeros(size, np.uint8, order="F")
    mask[:10, :10] = 1
    person = replace(
        people[0], height=size[0], width=size[1], bbox=(0.0, 0.0, 10.0, 10.0), area=100.0,
        keypoints=np.tile(np.float32([5, 5, 2]), (17, 1)),
        counts=coco_mask.encode(mask)["counts"], scribbles=np.full((5, 12, 2), 5, np.int32),
    )  # fmt: skip
    annotated = annotate(Image.new("RGB", size[::-1]), [person])
    for number in range(4):
        result = TrainingTransform(crop_probability=1.0)(annotated, Random(number))
        assert max(result.size) <= 640
        assert only(result).is_shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip_probability": 1.1},
        {"crop_probability": -0.1},
        {"scales": ()},
        {"crop_scales": (0,)},
        {"crop_size": (50,)},
        {"crop_size": (60, 50)},
        {"crop_size": (0, 50)},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TrainingTransform(**{**SMALL, **wrong})


def test_real_people_survive_the_official_augmentation(refhuman_mini: Path) -> None:
    transform = TrainingTransform()
    for person in load_annotations(refhuman_mini / "RefHuman_train.json").instances[::6]:
        image = read_image(refhuman_mini / "images" / person.file_name, person.size)
        for number in range(3):
            result = transform(annotate(image, [person]), Random(f"{person.image_id}/{number}"))
            assert only(result).is_shown
            assert only(result).area == pytest.approx(float(only(result).mask.sum()), rel=0.1)
