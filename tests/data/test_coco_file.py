"""Who of a COCO file is asked about, who is in the ground truth, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.data.coco_images import write_mini
from uniphd.data.coco_file import read_coco
from uniphd.errors import AnnotationError


def test_the_ground_truth_is_that_of_pycocotools(refhuman_mini: Path, tmp_path: Path) -> None:
    write_mini(refhuman_mini, tmp_path)
    file = read_coco(tmp_path / "coco.json")
    official = COCO(str(tmp_path / "coco.json"))
    expected = official.loadAnns(official.getAnnIds(catIds=[1]))
    assert len(file.annotations) == len(expected) == 65
    assert [entry["id"] for entry in file.annotations] == list(range(1, 66))
    for ours, theirs in zip(file.annotations, expected, strict=True):
        for key in ("image_id", "iscrowd", "bbox", "area", "num_keypoints"):
            assert ours[key] == theirs[key]
        assert ours["segmentation"] == official.annToRLE(theirs)
        poses = np.array([ours["keypoints"], theirs["keypoints"]]).reshape(2, 17, 3)
        labelled = poses[1, :, 2] > 0
        np.testing.assert_allclose(poses[0][labelled], poses[1][labelled], rtol=1e-6)


def test_crowds_and_people_without_mask_or_box_are_not_asked_about(
    refhuman_mini: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_mini(refhuman_mini, tmp_path)
    with caplog.at_level("INFO"):
        file = read_coco(tmp_path / "coco.json")
    assert {76, 77, 78, 79, 900_000_000_001} & {p.annotation_id for p in file.people} == {76}
    assert len(file.people) == 62
    assert file.unpromptable == {"empty mask": 1, "box without area": 1}
    assert "62 people in 24 images" in caplog.text
    assert "1 crowds are ignored, and 2 people without labelled keypoints" in caplog.text
    assert "for 2 people (1 x empty mask, 1 x box without area), who count as missed" in caplog.text


def _drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0].pop(key)


def _repeat(content: dict[str, Any]) -> None:
    content["annotations"].append(content["annotations"][0])


def _contradict(content: dict[str, Any]) -> None:
    content["annotations"][0]["num_keypoints"] = 0


def _lose_the_image(content: dict[str, Any]) -> None:
    content["annotations"][0]["image_id"] = 5


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop("area"), r"annotations\[0\]: 'area' is missing"),
        (_drop("segmentation"), r"annotations\[0\]: 'segmentation' is missing"),
        (_drop("keypoints"), r"annotations\[0\]: 'keypoints' is missing"),
        (_repeat, "is there twice"),
        (_contradict, "'num_keypoints' is 0 and 'keypoints' has"),
        (_lose_the_image, "'image_id' 5 is that of no usable image"),
    ],
)
def test_what_cannot_be_evaluated_is_named_or_left_out(
    refhuman_mini: Path,
    tmp_path: Path,
    spoil: Callable[[dict[str, Any]], None],
    message: str,
) -> None:
    content = write_mini(refhuman_mini, tmp_path)
    spoil(content)
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=message):
        read_coco(tmp_path / "coco.json")
    left = read_coco(tmp_path / "coco.json", "skip")
    assert len(left.annotations) == 65 - (spoil is not _repeat)
