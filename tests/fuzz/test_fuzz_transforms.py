"""Augmentation: a painted keypoint and scribble are where the annotation says they are."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from tests.fuzz.cases import ends_well, share
from tests.fuzz.people import assert_sound_target
from uniphd.data.annotations import ReferredPerson
from uniphd.data.sample import AnnotatedImage, annotate, make_target
from uniphd.data.transforms import TrainingTransform
from uniphd.keypoints import COCO17
from uniphd.prompts import KINDS

RADIUS = 3  # of what is painted, pixels


@dataclass(frozen=True)
class Case:
    """A person, the place that is painted, and an augmentation."""

    size: tuple[int, int]
    keypoint: int
    place: tuple[int, int]  # x, y of that keypoint and of the first point of every scribble
    seed: int
    transform: TrainingTransform


@st.composite
def cases(draw: st.DrawFn) -> Case:
    height, width = draw(st.integers(24, 90)), draw(st.integers(24, 90))
    margin = RADIUS + 1
    smallest = draw(st.integers(10, 60))
    return Case(
        size=(height, width),
        keypoint=draw(st.integers(0, 16)),
        place=(
            draw(st.integers(margin, width - 1 - margin)),
            draw(st.integers(margin, height - 1 - margin)),
        ),
        seed=draw(st.integers(0, 10**6)),
        transform=TrainingTransform(
            scales=(draw(st.integers(24, 120)),),
            max_size=draw(st.integers(60, 160)),
            crop_probability=draw(st.sampled_from([0.0, 1.0])),
            crop_scales=(draw(st.integers(24, 120)),),
            crop_size=(smallest, smallest + draw(st.integers(0, 60))),
        ),
    )


def person_of(case: Case) -> ReferredPerson:
    """Everything but one keypoint is in the middle; the mask is all of the image."""
    height, width = case.size
    keypoints = np.tile(np.array([width // 2, height // 2, 2], np.float32), (17, 1))
    keypoints[case.keypoint, :2] = case.place
    counts = coco_mask.encode(np.ones(case.size, np.uint8, order="F"))["counts"]
    return ReferredPerson(
        image_id=1,
        annotation_id=1,
        file_name="image.png",
        height=height,
        width=width,
        caption="on the left",
        bbox=(0.0, 0.0, float(width), float(height)),
        area=float(height * width),
        keypoints=keypoints,
        counts=counts,
        scribbles=np.tile(np.array(case.place, np.int32), (5, 12, 1)),
    )


def painted(case: Case) -> Image.Image:
    """Black, a red disc at the place, and a blue that grows from left to right."""
    height, width = case.size
    rows, columns = np.mgrid[:height, :width]
    pixels = np.zeros((height, width, 3), np.uint8)
    x, y = case.place
    pixels[..., 0] = 255 * ((columns - x) ** 2 + (rows - y) ** 2 <= RADIUS**2)
    pixels[..., 2] = 40 + columns * 200 // width
    return Image.fromarray(pixels)


def found(pixels: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Centre (x, y) of what is red."""
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    return (columns * pixels).sum() / pixels.sum(), (rows * pixels).sum() / pixels.sum()


def is_mirrored(pixels: npt.NDArray[np.float64]) -> bool:
    """Whether the blue falls from left to right."""
    return bool(pixels[:, 0].mean() > pixels[:, -1].mean())


@share(0.13)
@given(case=cases())
def test_points_stay_on_the_same_place_of_the_body(case: Case) -> None:
    with ends_well():
        annotated = case.transform(annotate(painted(case), [person_of(case)]), Random(case.seed))
        target = make_target(annotated.people[0])
        assert_sound_target(target, annotated.size)
        pixels = np.asarray(annotated.image, dtype=np.float64)
        mirrored = is_mirrored(pixels[..., 2])
        assert mirrored == (annotated.people[0].caption == "on the right")
        check_points(case, annotated, pixels[..., 0], mirrored)


def check_points(
    case: Case, annotated: AnnotatedImage, red: npt.NDArray[np.float64], mirrored: bool
) -> None:
    height, width = annotated.size
    name = COCO17.names[case.keypoint]
    if mirrored:  # by the names, not by the order that the transform uses
        swap = {"left": "right", "right": "left"}
        side, _, rest = name.partition("_")
        name = f"{swap[side]}_{rest}" if side in swap else name
    number = COCO17.names.index(name)
    target = make_target(annotated.people[0])
    if target.visibility[0, number] == 0:
        x, y = annotated.people[0].keypoints[number].tolist()
        assert not (0 <= x < width and 0 <= y < height), "a keypoint of the image was lost"
        return
    x, y = (target.keypoints[0, number].numpy() * (width, height)).tolist()
    stroke = annotated.people[0].scribbles[0, 0].tolist()
    np.testing.assert_allclose(stroke, (x, y), atol=0.01)
    # The disc has to be whole for its centre to be known.
    scale = 2 * RADIUS * max(enlargement(case, annotated), 0.5)
    assume(min(x, y, width - 1 - x, height - 1 - y) > scale)
    assert red.max() > 0
    centre = found(red)
    # Half a pixel of the source: its centre is at .5, and annotations count from the corner.
    tolerance = 0.75 + 0.5 * enlargement(case, annotated)
    np.testing.assert_allclose(centre, (x, y), atol=tolerance)


def enlargement(case: Case, annotated: AnnotatedImage) -> float:
    """How much wider the painted disc may have become."""
    largest = max(*case.transform.scales, *case.transform.crop_scales)
    return max(largest / min(case.size), 1.0) * max(
        1.0, max(annotated.size) / case.transform.crop_size[0]
    )


@st.composite
def thin_people(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int, int, int], int]:
    """Sizes up to panoramas, and a mask of any rectangle, down to a pixel."""
    height = draw(st.sampled_from([1, 2, 3, 10, 60, 300]))
    width = draw(st.sampled_from([1, 2, 7, 50, 400, 3_000]))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right = draw(st.integers(left + 1, min(width, left + 40)))
    bottom = draw(st.integers(top + 1, min(height, top + 40)))
    return (height, width), (left, top, right, bottom), draw(st.integers(0, 10**6))


@share(0.07)
@given(case=thin_people(), turned=st.booleans())
def test_every_size_gives_a_sound_target(
    case: tuple[tuple[int, int], tuple[int, int, int, int], int], turned: bool
) -> None:
    (height, width), (left, top, right, bottom), seed = case
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[top:bottom, left:right] = 1
    if turned:
        mask = np.asfortranarray(mask.T)
        (height, width), (left, top, right, bottom) = mask.shape, (top, left, bottom, right)
    person = ReferredPerson(
        image_id=1,
        annotation_id=1,
        file_name="image.png",
        height=height,
        width=width,
        caption="him",
        bbox=(float(left), float(top), float(right - left), float(bottom - top)),
        area=float(mask.sum()),
        keypoints=np.tile(np.array([left, top, 2], np.float32), (17, 1)),
        counts=coco_mask.encode(mask)["counts"],
        scribbles=np.tile(np.array([left, top], np.int32), (5, 12, 1)),
    )
    transform = TrainingTransform(
        scales=(32, 48), max_size=64, crop_scales=(40, 60), crop_size=(20, 40)
    )
    with ends_well():
        annotated = transform(annotate(Image.new("RGB", (width, height)), [person]), Random(seed))
        assert max(annotated.size) <= 128, "an image beyond the limit; rounding at most doubles it"
        assert_sound_target(make_target(annotated.people[0]), annotated.size)
        for kind in KINDS.values():
            prompt = kind.sample(annotated.people[0], Random(seed))
            prompt.require_sound()
            prompt.require_inside(annotated.size)
