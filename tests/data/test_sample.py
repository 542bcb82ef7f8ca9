"""Geometry: what is annotated stays on the pixels that it was annotated on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.data.images import read_image
from uniphd.data.sample import (
    AnnotatedImage,
    AnnotatedPerson,
    annotate,
    annotated_person,
    crop,
    flip,
    image_tensor,
    make_target,
    resize,
    resized_size,
)
from uniphd.keypoints import COCO17

sides = st.integers(1, 2000)


def image_with(points: np.ndarray, height: int, width: int) -> AnnotatedImage:
    """A black image with one bright pixel per keypoint, each with a colour of its own.

    The mask has the same pixels, and a scribble runs over the first twelve of them.
    """
    pixels = np.zeros((height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    for number, (x, y) in enumerate(points):
        pixels[y, x] = (100 + number, 200, 50)
        mask[y, x] = 1
    low, high = points.min(0), points.max(0) + 1
    box = torch.tensor([[*low.tolist(), *high.tolist()]], dtype=torch.float32)
    coordinates = torch.from_numpy(points).float()
    person = AnnotatedPerson(
        caption="the person on the left",
        other_captions=("a man", "the one who is not on the right"),
        box=box,
        keypoints=coordinates,
        visibility=torch.ones(17, dtype=torch.bool),
        scribbles=coordinates[None, :12],
        mask=torch.from_numpy(mask)[None],
        area=float(mask.sum()),
    )
    return AnnotatedImage(Image.fromarray(pixels), (person,))


def only(annotated: AnnotatedImage) -> AnnotatedPerson:
    """The one person of an image."""
    (person,) = annotated.people
    return person


@st.composite
def images(draw: st.DrawFn) -> AnnotatedImage:
    height, width = draw(st.integers(18, 60)), draw(st.integers(18, 60))
    cells = draw(
        st.lists(st.integers(0, height * width - 1), min_size=17, max_size=17, unique=True)
    )
    y, x = np.divmod(np.array(cells), width)
    return image_with(np.stack([x, y], axis=1), height, width)


def colours(annotated: AnnotatedImage) -> list[tuple[int, int, int]]:
    """The image's colour below every visible keypoint."""
    points = only(annotated).keypoints[only(annotated).visibility].long().tolist()
    return [annotated.image.getpixel((x, y)) for x, y in points]


def extent(mask: torch.Tensor) -> list[float]:
    y, x = np.nonzero(mask[0].numpy())
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


@given(images())
@settings(deadline=None, max_examples=40)
def test_a_flip_keeps_every_annotation_on_its_pixel(annotated: AnnotatedImage) -> None:
    flipped = flip(annotated)
    # Left and right exchange names: keypoint 1 lies where keypoint 2 was, and the other way round.
    order = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert colours(flipped) == [(100 + number, 200, 50) for number in order]
    strokes = only(flipped).scribbles[0].long().tolist()
    assert [flipped.image.getpixel((x, y)) for x, y in strokes] == colours(annotated)[:12]
    assert only(flipped).box[0].tolist() == extent(only(flipped).mask)
    assert only(flipped).area == only(annotated).area


@given(images())
@settings(deadline=None, max_examples=20)
def test_two_flips_are_none(annotated: AnnotatedImage) -> None:
    again = flip(flip(annotated))
    assert again.image.tobytes() == annotated.image.tobytes()
    for name in ("box", "keypoints", "visibility", "scribbles", "mask"):
        assert torch.equal(getattr(only(again), name), getattr(only(annotated), name)), name


def test_a_flip_exchanges_the_pairs_of_the_set() -> None:
    points = np.stack([np.arange(17), np.arange(17)], axis=1)
    pair = replace(COCO17, name="one pair", flip_pairs=(("nose", "right_ankle"),))
    annotated = image_with(points, 30, 40)
    person = replace(only(annotated), schema=pair)
    flipped = only(flip(replace(annotated, people=(person,))))
    assert flipped.keypoints[:, 1].tolist() == [16, *range(1, 16), 0]


def test_a_flip_takes_the_visibility_along() -> None:
    points = np.stack([np.arange(17), np.arange(17)], axis=1)
    annotated = image_with(points, 30, 40)
    only(annotated).visibility[5] = False  # the left shoulder
    assert only(flip(annotated)).visibility.logical_not().nonzero().flatten().tolist() == [6]


@given(images(), st.integers(2, 4), st.integers(2, 4))
@settings(deadline=None, max_examples=40)
def test_a_resize_by_whole_factors_keeps_every_annotation_on_its_pixel(
    annotated: AnnotatedImage, down: int, across: int
) -> None:
    size = (annotated.size[0] * down, annotated.size[1] * across)
    resized = resize(annotated, size)
    assert resized.size == size
    assert only(resized).mask.shape == (1, *size)
    block = np.kron(only(annotated).mask[0].numpy(), np.ones((down, across), np.uint8))
    np.testing.assert_array_equal(only(resized).mask[0].numpy(), block)
    corners = only(resized).keypoints.long()
    assert (only(resized).mask[0][corners[:, 1], corners[:, 0]] == 1).all()
    assert only(resized).box[0].tolist() == extent(only(resized).mask)
    assert only(resized).area == pytest.approx(float(only(resized).mask.sum()))
    assert torch.equal(only(resized).scribbles[0], only(resized).keypoints[:12])


def test_a_resize_is_pillows_bilinear_and_scales_by_the_true_ratios() -> None:
    random = np.random.default_rng(0)
    points = np.stack([np.arange(17), 2 * np.arange(17)], axis=1)
    annotated = image_with(points, 50, 37)
    noise = Image.fromarray(random.integers(0, 256, (50, 37, 3), dtype=np.uint8))
    resized = resize(replace(annotated, image=noise), (81, 23))
    expected = noise.resize((23, 81), Image.Resampling.BILINEAR)
    assert resized.image.tobytes() == expected.tobytes()
    np.testing.assert_allclose(only(resized).keypoints, points * (23 / 37, 81 / 50), rtol=1e-6)
    rows = np.floor(np.arange(81) * 50 / 81).astype(int)
    columns = np.floor(np.arange(23) * 37 / 23).astype(int)
    np.testing.assert_array_equal(
        only(resized).mask[0], only(annotated).mask[0].numpy()[rows][:, columns]
    )
    assert only(resized).area == pytest.approx(17 * 81 * 23 / (50 * 37))


@given(images(), st.data())
@settings(deadline=None, max_examples=60)
def test_a_crop_keeps_what_is_inside_and_hides_what_is_not(
    annotated: AnnotatedImage, data: st.DataObject
) -> None:
    height, width = annotated.size
    new_height, new_width = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    top, left = (
        data.draw(st.integers(0, height - new_height)),
        data.draw(st.integers(0, width - new_width)),
    )
    cropped = crop(annotated, top, left, (new_height, new_width))

    window = np.asarray(annotated.image)[top : top + new_height, left : left + new_width]
    remaining = [tuple(colour) for colour in window.reshape(-1, 3).tolist() if any(colour)]
    assert (cropped is None) == (not remaining)
    if cropped is None:
        return
    np.testing.assert_array_equal(np.asarray(cropped.image), window)
    assert sorted(colours(cropped)) == sorted(remaining)
    assert only(cropped).area == len(remaining) == only(cropped).mask.sum()
    assert only(cropped).mask.shape == (1, new_height, new_width)
    expected = np.clip(
        only(annotated).box[0].numpy() - [left, top, left, top], 0, [new_width, new_height] * 2
    )
    np.testing.assert_array_equal(only(cropped).box[0].numpy(), expected)
    shift = torch.tensor([left, top])
    assert torch.equal(only(cropped).scribbles + shift, only(annotated).scribbles)


@given(sides, sides, st.integers(1, 800), st.one_of(st.none(), st.integers(1, 900)))
@settings(deadline=None, max_examples=300)
def test_sizes_follow_the_official_formula(
    height: int, width: int, shorter_side: int, max_size: int | None
) -> None:
    wanted = shorter_side
    if max_size is not None and float(max(height, width)) / min(height, width) * wanted > max_size:
        wanted = round(max_size * float(min(height, width)) / max(height, width))
    if wanted == 0:  # the official code fails here
        assert max_size is not None
        limited = (max_size, 1) if width < height else (1, max_size)
        assert resized_size((height, width), shorter_side, max_size) == limited
        return
    if (width <= height and width == wanted) or (height <= width and height == wanted):
        expected = (height, width)
    elif width < height:
        expected = (int(wanted * height / width), wanted)
    else:
        expected = (wanted, int(wanted * width / height))
    assert resized_size((height, width), shorter_side, max_size) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (480, 640)), ((427, 640), (427, 640)), ((333, 500), (426, 639)),
     ((500, 375), (640, 480)), ((612, 612), (640, 640)), ((640, 426), (640, 426))],
)  # fmt: skip
def test_evaluation_sizes_of_common_images(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert resized_size(size, 640, 640) == expected


def test_the_image_has_the_images_pixels() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    tensor = image_tensor(Image.fromarray(pixels))
    assert tensor.dtype == torch.uint8
    np.testing.assert_array_equal(tensor, pixels.transpose(2, 0, 1))


def test_a_real_target_agrees_with_its_annotation(refhuman_mini: Path) -> None:
    for person in load_annotations(refhuman_mini / "RefHuman_val.json").instances:
        image = read_image(refhuman_mini / "images" / person.file_name, person.size)
        annotated = annotate(image, [person])
        target = make_target(only(resize(annotated, resized_size(annotated.size, 640, 640))))
        height, width = resized_size(person.size, 640, 640)
        assert target.masks.shape == (1, height, width)
        assert target.masks.dtype == torch.bool
        x, y, w, h = person.bbox
        box = np.array([x + w / 2, y + h / 2, w, h]) / ([person.width, person.height] * 2)
        np.testing.assert_allclose(target.boxes[0], box, atol=0.002)  # clipped to the image
        labelled = person.keypoints[:, 2] > 0
        points = person.keypoints[labelled, :2] / [person.width, person.height]
        np.testing.assert_array_equal(target.visibility[0] == 1, labelled)
        np.testing.assert_allclose(target.keypoints[0][labelled], points, rtol=1e-5)
        assert (target.keypoints[0][~labelled] == 0).all()
        area = person.area / (person.width * person.height)
        assert target.area.item() == pytest.approx(area, rel=1e-5)
        assert target.masks.float().mean().item() == pytest.approx(person.mask().mean(), rel=0.05)
        assert target.labels.tolist() == [1]
        for field in (target.boxes, target.keypoints, target.visibility, target.masks, target.area):
            assert type(field) is torch.Tensor


def test_a_box_that_rounding_took_over_the_border_is_clipped(
    people: tuple[ReferredPerson, ...],
) -> None:
    person = replace(people[0], bbox=(-0.5, -0.25, people[0].width + 1.0, 40.0))
    assert annotated_person(person).box[0].tolist() == [0, 0, person.width, 39.75]


def test_a_mask_too_thin_for_the_size_keeps_a_pixel(people: tuple[ReferredPerson, ...]) -> None:
    mask = np.zeros((people[0].height, people[0].width), np.uint8, order="F")
    mask[41, 83] = 1
    person = replace(people[0], counts=coco_mask.encode(mask)["counts"])
    annotated = annotate(Image.new("RGB", (person.width, person.height)), [person])
    for height in (3, 7, 10, 20):
        small = resize(annotated, (height, 2 * height))
        (place,) = only(small).mask[0].nonzero().tolist()
        assert place == [41 * height // person.height, 83 * 2 * height // person.width]
