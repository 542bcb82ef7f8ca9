"""Files as annotation tools export them: their quirks are named, and mended where possible."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.datatools.test_check import check, found
from tests.refhuman_folder import write_refhuman
from uniphd.keypoints import COCO17

Content = dict[str, Any]
PEOPLE = 8


@pytest.fixture
def coco(tmp_path: Path) -> tuple[Path, Content]:
    """Drawn people in COCO's form: several of an image, without captions and scribbles."""
    root = write_refhuman(tmp_path / "refhuman", people=PEOPLE, seed=5)
    content = json.loads((root / "RefHuman_train.json").read_text())
    for path in root.glob("*.json"):
        path.unlink()
    ids: dict[str, int] = {}
    images = []
    for entry, person in zip(content["images"], content["annotations"], strict=True):
        name = entry["file_name"]
        if name not in ids:
            ids[name] = len(ids) + 1
            del entry["caption"]
            images.append({**entry, "id": ids[name]})
        person["image_id"] = ids[name]
        del person["scribble"]
    content["images"] = images
    content["categories"] = [{"id": 1, "name": "person", "keypoints": list(COCO17.names)}]
    return root, content


def cvat(root: Path, content: Content) -> Path:
    """COCO Keypoints of CVAT: boxes of skeletons, a track that has ended."""
    for person in content["annotations"]:
        rows = np.array(person["keypoints"], dtype=float).reshape(-1, 3)
        shown = rows[rows[:, 2] > 0, :2]
        low, high = shown.min(0), shown.max(0)
        person["bbox"] = [*low.tolist(), *(high - low).tolist()]
        person["attributes"] = {"occluded": False, "track_id": 0, "keyframe": True}
    ended = {**copy.deepcopy(content["annotations"][0]), "id": 99}
    ended.update(bbox=[0, 0, 0, 0], area=0, segmentation=[], keypoints=[0] * 51, num_keypoints=0)
    content["annotations"].append(ended)
    path = root / "annotations" / "person_keypoints_default.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return path


def label_studio(root: Path, content: Content) -> Path:
    r"""COCO of Label Studio: `images\1\name`, ids of categories from 0."""
    for entry in content["images"]:
        name = entry["file_name"]
        (root / "images" / "1").mkdir(exist_ok=True)
        (root / "images" / name).rename(root / "images" / "1" / name)
        entry["file_name"] = f"images\\1\\{name}"
    content["categories"][0]["id"] = 0
    for person in content["annotations"]:
        person["category_id"] = 0
    path = root / "result.json"
    path.write_text(json.dumps(content))
    return path


def roboflow(root: Path, content: Content) -> Path:
    """COCO of Roboflow: the file lies beside the images, and a class 0 stands for all."""
    for path in (root / "images").iterdir():
        if path.name.startswith("val"):
            path.unlink()
    (root / "images").rename(root / "train")
    content["categories"] = [
        {"id": 0, "name": "people-poses", "supercategory": "none"},
        {"id": 1, "name": "person", "supercategory": "people-poses", "keypoints": COCO17.names},
    ]
    path = root / "train" / "_annotations.coco.json"
    path.write_text(json.dumps(content))
    return path


EXPORTS: list[tuple[Callable[[Path, Content], Path], dict[str, int]]] = [
    (cvat, {"COCO form": 1, "box of the keypoints": PEOPLE, "zeroed track": 1}),
    (
        label_studio,
        {"COCO form": 1, "person is not category 1": 1, "backslash": PEOPLE},
    ),
    (roboflow, {"COCO form": 1}),
]


@pytest.mark.parametrize(("export", "kinds"), EXPORTS)
def test_quirks_of_exports_are_named_and_mended(
    export: Callable[[Path, Content], Path],
    kinds: dict[str, int],
    coco: tuple[Path, Content],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, content = coco
    truth = copy.deepcopy(content)
    path = export(root, content)
    assert found(root, capsys) == kinds
    capsys.readouterr()
    assert check(root, "--fix", str(tmp_path / "out")) == 1
    assert "uniphd-data from-coco" in capsys.readouterr().out
    assert found(tmp_path / "out", capsys) == {"COCO form": 1}
    mended = COCO(str(tmp_path / "out" / path.relative_to(root)))
    assert len(mended.anns) == PEOPLE
    for right in truth["annotations"]:
        now = mended.anns[right["id"]]
        assert now["keypoints"] == right["keypoints"]
        assert now["category_id"] == 1
        np.testing.assert_allclose(now["bbox"], right["bbox"], atol=1.1)


def test_people_without_a_mask_are_left_out(
    coco: tuple[Path, Content], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, content = coco
    content["annotations"][0]["segmentation"] = []
    (root / "file.json").write_text(json.dumps(content))
    assert found(root, capsys) == {"COCO form": 1, "missing segmentation": 1}
    check(root, "--fix", str(tmp_path / "out"))
    assert len(COCO(str(tmp_path / "out" / "file.json")).anns) == PEOPLE - 1


def test_people_of_an_image_may_have_no_keypoints(
    coco: tuple[Path, Content], capsys: pytest.CaptureFixture[str]
) -> None:
    """COCO's own files have many, and crowds."""
    root, content = coco
    content["annotations"][0].update(keypoints=[0] * 51, num_keypoints=0)
    content["annotations"].append({**content["annotations"][1], "id": 98, "iscrowd": 1})
    (root / "file.json").write_text(json.dumps(content))
    assert found(root, capsys) == {"COCO form": 1}


def test_a_person_twice_in_an_image(
    coco: tuple[Path, Content], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, content = coco
    content["annotations"].append({**copy.deepcopy(content["annotations"][1]), "id": 97})
    (root / "file.json").write_text(json.dumps(content))
    assert found(root, capsys) == {"COCO form": 1, "repeated person": 1}
    check(root, "--fix", str(tmp_path / "out"))
    assert len(COCO(str(tmp_path / "out" / "file.json")).anns) == PEOPLE
