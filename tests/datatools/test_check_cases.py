"""Failing inputs of users, official files, and real people."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import _shared
from tests.datatools.test_check import check, found
from uniphd.data.annotations import load_annotations

Row = dict[str, Any]

CASES: list[tuple[str, dict[str, int]]] = [
    ("02-flip-lefty", {}),
    ("03-same-person-two-rows/v1_for_v2", {"person annotated in two ways": 4}),
    ("03-same-person-two-rows/unlabelled_at_minus_one", {"num_keypoints": 8}),
    ("04-fields-contradict/area_one", {"area against the mask": 4}),
    ("04-fields-contradict/box_normalised", {"box against the mask": 4}),
    ("04-fields-contradict/box_xyxy", {"box against the mask": 4}),
    ("04-fields-contradict/keypoints_normalised", {"keypoints against the mask": 4}),
    ("04-fields-contradict/keypoints_y_x", {"keypoints against the mask": 4}),
    ("05-categories-ignored/keypoints_in_alphabetical_order", {"keypoints in another order": 1}),
    ("05-categories-ignored/person_is_category_0", {"person is not category 1": 1}),
    ("13-exif/exif_180_same_size", {"EXIF orientation": 1}),
    ("13-exif/exif_90_square", {"EXIF orientation": 1}),
    ("14-backslash-and-tilde", {"backslash": 2}),
    ("16-official-loader-takes-these/crowd_beside_the_person", {"crowd": 1}),
    (
        "16-official-loader-takes-these/image_without_annotation_and_person_without_keypoints",
        {"image without annotation": 1, "person without keypoints": 1},
    ),
    ("16-official-loader-takes-these/no_scribbles", {"missing scribble": 4}),
]
"""Their validation files; the images of several have the same bytes."""


@pytest.mark.parametrize(("name", "kinds"), CASES, ids=[name for name, _ in CASES])
def test_failing_inputs_of_users(
    name: str, kinds: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(_shared("cases") / name, root)
    root.chmod(0o755)
    (root / "RefHuman_train.json").unlink()
    problems = found(root, capsys)
    problems.pop("image under two names", None)
    assert problems == kinds
    assert check(root, "--fix", str(tmp_path / "out")) in (0, 1)
    assert found(tmp_path / "out", capsys) == {}
    assert load_annotations(tmp_path / "out" / "RefHuman_val.json").instances


@pytest.mark.parametrize(
    ("case", "prompts"),
    [(CASES[-3], ("point",)), (CASES[-2], ("point",)), (CASES[-1], ())],
    ids=["crowd", "unlabelled", "no scribbles"],
)
def test_what_the_official_loader_leaves_out_is_counted_alike(
    case: tuple[str, dict[str, int]],
    prompts: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    name, kinds = case
    path = _shared("cases") / name / "RefHuman_val.json"
    with caplog.at_level(logging.WARNING):
        people = load_annotations(path, scribble_prompts=prompts).instances
    assert len(people) == 4
    counted = [record.getMessage() for record in caplog.records]
    if not prompts:  # nothing is left out where nothing is missing
        assert counted == []
        return
    (line,) = counted
    assert "left out, as the official loader does: " in line
    for kind, count in kinds.items():
        assert f"{count} x {kind}" in line


def _shift_box(person: Row) -> None:
    person["bbox"] = [person["bbox"][0] + 1, person["bbox"][1] + 1, *person["bbox"][2:]]


def _box_of_keypoints(person: Row) -> None:
    rows = np.array(person["keypoints"], dtype=float).reshape(-1, 3)
    shown = rows[rows[:, 2] > 0, :2]
    person["bbox"] = [*shown.min(0).tolist(), *(shown.max(0) - shown.min(0)).tolist()]


def _swap_axes(person: Row) -> None:
    rows = np.array(person["keypoints"]).reshape(-1, 3)
    person["keypoints"] = rows[:, [1, 0, 2]].ravel().tolist()


def _sort_keypoints(person: Row) -> None:
    from uniphd.keypoints import COCO17

    order = sorted(range(17), key=lambda place: COCO17.names[place])
    person["keypoints"] = np.array(person["keypoints"]).reshape(-1, 3)[order].ravel().tolist()


REAL: list[tuple[str, Callable[[Row], None]]] = [
    ("box counted from 1", _shift_box),
    ("box of the keypoints", _box_of_keypoints),
    ("keypoints in another order than named", _sort_keypoints),
    ("keypoints against the mask", _swap_axes),
]


@pytest.mark.parametrize(("kind", "change"), REAL, ids=[kind for kind, _ in REAL])
def test_what_real_people_have_wrong_as_a_whole(
    kind: str,
    change: Callable[[Row], None],
    refhuman_mini: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "images").symlink_to(refhuman_mini / "images")
    content = json.loads((refhuman_mini / "RefHuman_train.json").read_text())
    truth = json.loads((refhuman_mini / "RefHuman_train.json").read_text())["annotations"]
    for person in content["annotations"]:
        change(person)
    (root / "RefHuman_train.json").write_text(json.dumps(content))
    assert list(found(root, capsys)) == [kind]
    assert check(root, "--fix", str(tmp_path / "out")) == 1
    assert found(tmp_path / "out", capsys) == {}
    mended = json.loads((tmp_path / "out" / "RefHuman_train.json").read_text())["annotations"]
    lost = len(truth) - len(mended)
    by_id = {person["id"]: person for person in mended}
    worst = 0.0
    for right in truth:
        if right["id"] in by_id:
            now = by_id[right["id"]]["keypoints"]
            worst = max(worst, float(np.abs(np.subtract(now, right["keypoints"])).max()))
    assert worst == 0
    assert lost <= 1  # who fits in neither way
