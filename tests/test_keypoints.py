"""Keypoint sets as values, and the facts that their authors published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from uniphd.errors import ConfigError
from uniphd.keypoints import (
    COCO17,
    COCO_WHOLEBODY133,
    CROWDPOSE14,
    SCHEMAS,
    KeypointSchema,
    keypoint_schema,
)

# COCO's annotation files, counted from 1.
COCO_SKELETON = [
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9),
    (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_mirror_image_of_a_mirror_image_is_the_image(schema: KeypointSchema) -> None:
    order = schema.flip_order
    assert sorted(order) == list(range(len(schema)))
    assert [order[place] for place in order] == list(range(len(schema)))
    for place, name in enumerate(schema.names):
        side, _, joint = name.partition("_")
        if side in ("left", "right"):
            other = {"left": "right", "right": "left"}[side]
            assert schema.names[order[place]] == f"{other}_{joint}"


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_all_that_is_said_is_about_its_keypoints(schema: KeypointSchema) -> None:
    assert keypoint_schema(schema.name) is schema
    assert len(schema.sigmas) == len(schema.names) == len(set(schema.names))
    for (start, end), names in zip(schema.edges, schema.skeleton, strict=True):
        assert (schema.names[start], schema.names[end]) == names


def test_coco_is_pycocotools_and_the_annotation_files() -> None:
    np.testing.assert_allclose(COCO17.sigmas, Params("keypoints").kpt_oks_sigmas, rtol=1e-15)
    assert [(start + 1, end + 1) for start, end in COCO17.edges] == COCO_SKELETON
    assert COCO17.flip_order == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert COCO17.head == (3, 4)


def test_crowdpose_is_as_published() -> None:
    published = [0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]
    np.testing.assert_allclose(CROWDPOSE14.sigmas, np.array(published) / 10)
    assert CROWDPOSE14.names[:2] == ("left_shoulder", "right_shoulder")
    assert CROWDPOSE14.names[-2:] == ("top_head", "neck")
    assert CROWDPOSE14.flip_order == (1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13)
    assert len(CROWDPOSE14.skeleton) == 15
    assert CROWDPOSE14.head is None


def test_wholebody_is_as_published() -> None:
    """Body, 6 of the feet, 68 of the face, 21 of each hand; both hands have the same sigmas."""
    names, sigmas = COCO_WHOLEBODY133.names, COCO_WHOLEBODY133.sigmas
    assert (len(names), len(COCO_WHOLEBODY133.skeleton)) == (133, 65)
    starts = (0, 17, 20, 23, 91, 112)
    first = ("nose", "left_big_toe", "right_big_toe", "face-0", "left_hand_root", "right_hand_root")
    assert tuple(names[start] for start in starts) == first
    assert sigmas[:17] == COCO17.sigmas
    assert sigmas[91:112] == sigmas[112:]
    parts = [sum(sigmas[a:b]) for a, b in ((17, 23), (23, 91), (91, 112))]
    assert parts == pytest.approx([0.48, 1.137, 0.553])
    # The face's outline, brows, nose, eyes and mouth from dlib's 68 points.
    mirrored = {0: 16, 8: 8, 17: 26, 21: 22, 30: 30, 31: 35, 36: 45, 39: 42, 40: 47, 41: 46}
    mirrored |= {48: 54, 51: 51, 50: 52, 55: 59, 57: 57, 60: 64, 62: 62, 65: 67, 66: 66}
    order = COCO_WHOLEBODY133.flip_order
    assert {point: order[23 + point] - 23 for point in mirrored} == mirrored


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"names": ()}, "no keypoints"),
        ({"names": ("nose", *COCO17.names[:-1])}, "one twice"),
        ({"sigmas": COCO17.sigmas[1:]}, "needs 17 sigmas"),
        ({"sigmas": (0.0, *COCO17.sigmas[1:])}, "above 0"),
        ({"flip_pairs": (("left_eye", "tail"),)}, "pairs left_eye and tail"),
        ({"flip_pairs": (("nose", "nose"),)}, "pairs nose and nose"),
        (
            {"flip_pairs": (("left_eye", "right_eye"), ("right_eye", "left_ear"))},
            "right_eye in two flip pairs",
        ),
        ({"skeleton": (("neck", "nose"),)}, "pairs neck and nose"),
        ({"head_pair": ("neck", "nose")}, "pairs neck and nose"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        replace(COCO17, **change)


@pytest.mark.parametrize("name", ["coco17", None, 17])
def test_an_unknown_set_is_refused_with_the_known_ones(name: Any) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'; choose from coco, crowdpose, coco_wholebody"):
        keypoint_schema(name)
