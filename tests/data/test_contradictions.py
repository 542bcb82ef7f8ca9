"""Fields that contradict the mask: named where a file is so, warned of where single people are."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.refhuman_folder import write_refhuman
from uniphd.data.annotations import load_annotations
from uniphd.data.contradictions import find_contradictions
from uniphd.data.geometry import Geometry, read_geometry
from uniphd.errors import AnnotationError

PEOPLE = 12
Array = Any
Change = Callable[[dict[str, Any], Array], None]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = write_refhuman(tmp_path_factory.mktemp("drawn"), people=PEOPLE, seed=3)
    content: dict[str, Any] = json.loads((root / "RefHuman_train.json").read_text())
    return content


@pytest.fixture
def save(drawn: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """The drawn people after a change of some of them, all unless it is said."""

    def write(change: Change, concerned: range = range(PEOPLE)) -> Path:
        content = json.loads(json.dumps(drawn))
        for number in concerned:
            image, annotation = content["images"][number], content["annotations"][number]
            change(annotation, np.array([image["width"], image["height"]], dtype=float))
        path = tmp_path / "file.json"
        path.write_text(json.dumps(content))
        return path

    return write


def box(form: Callable[[Array, Array], Array]) -> Change:
    def change(annotation: dict[str, Any], size: Array) -> None:
        annotation["bbox"] = form(np.array(annotation["bbox"]), size).tolist()

    return change


def points(field: str, form: Callable[[Array, Array, Array], Array]) -> Change:
    """Changes x, y by the image's size and the box."""

    def change(annotation: dict[str, Any], size: Array) -> None:
        rows = np.array(annotation[field], dtype=float)
        rows = rows.reshape(-1, 3 if field == "keypoints" else 2)
        rows[:, :2] = form(rows[:, :2], size, np.array(annotation["bbox"]))
        annotation[field] = [int(n) if n == int(n) else n for n in rows.flatten().tolist()]

    return change


def area(form: Callable[[float, Array, Array], float]) -> Change:
    def change(annotation: dict[str, Any], size: Array) -> None:
        annotation["area"] = float(form(annotation["area"], size, np.array(annotation["bbox"])))

    return change


def both(first: Change, second: Change) -> Change:
    def change(annotation: dict[str, Any], size: Array) -> None:
        second(annotation, size)
        first(annotation, size)

    return change


def xyxy(b: Array, s: Array) -> Array:
    return np.r_[b[:2], b[:2] + b[2:]]


def centred(b: Array, s: Array) -> Array:
    return np.r_[b[:2] + b[2:] / 2, b[2:]]


WHOLE_FILES: list[tuple[Change, str]] = [
    (box(xyxy), "'bbox' of .* contradicts the mask; .* fit as x1, y1, x2, y2"),
    (box(centred), "'bbox'.* fit as centre x, centre y, width, height"),
    (box(lambda b, s: b / np.tile(s, 2)), "'bbox'.* x, y, width, height in fractions of the image"),
    (
        box(lambda b, s: centred(b, s) / np.tile(s, 2)),
        "'bbox'.* centre x, centre y, width, height in fractions of the image",
    ),
    (box(lambda b, s: b / np.tile(s, 2) * 100), "'bbox'.* in per cent of the image"),
    (
        box(lambda b, s: (xyxy(b, s) / np.tile(s, 2) * 1000)[[1, 0, 3, 2]]),
        "'bbox'.* y1, x1, y2, x2 in thousandths of the image",
    ),
    (box(lambda b, s: b[[1, 0, 3, 2]]), "'bbox'.* fit as y, x, height, width"),
    (box(lambda b, s: b / 2), "'bbox'.* fit as those of images 0.5 times as large"),
    (box(lambda b, s: np.r_[s[0] - b[0] - b[2], b[1:]]), "'bbox'.* of the mirrored image"),
    (box(lambda b, s: np.r_[0, 0, s]), "'bbox'.* fit as the whole image"),
    (area(lambda a, s, b: 1), "'area' of 12 of 12 people .*; 12 fit as one number for all"),
    (area(lambda a, s, b: a / s.prod()), "'area'.* fit as a fraction of the image"),
    (area(lambda a, s, b: b[2] * b[3]), "'area'.* fit as the area of the box"),
    (area(lambda a, s, b: a**0.5), "'area'.* fit as the square root of the mask's pixels"),
    (area(lambda a, s, b: a / 4), "'area'.* fit as that of images 0.5 times as large"),
    (
        points("keypoints", lambda p, s, b: p / s),
        "'keypoints'.* fit as x, y in fractions of the im",
    ),
    (points("keypoints", lambda p, s, b: p[:, ::-1]), "'keypoints'.* fit as y, x"),
    (
        points("keypoints", lambda p, s, b: (p / s * 100)[:, ::-1]),
        "'keypoints'.* fit as y, x in per cent of the image",
    ),
    (points("keypoints", lambda p, s, b: p - b[:2]), "'keypoints'.* from the corner of the box"),
    (
        points("keypoints", lambda p, s, b: (p - b[:2]) / b[2:]),
        "'keypoints'.* x, y in fractions of the box",
    ),
    (points("keypoints", lambda p, s, b: p * 0), "'keypoints'.* fit as one and the same point"),
    (points("keypoints", lambda p, s, b: p / 3), "'keypoints'.* of images 0.3\\d times as large"),
    (points("scribble", lambda p, s, b: p[:, ::-1]), "'scribble'.* fit as y, x"),
    (points("scribble", lambda p, s, b: p / s), "'scribble'.* x, y in fractions of the image"),
    (
        both(box(lambda b, s: b / 2), points("keypoints", lambda p, s, b: p / 2)),
        "'bbox' and 'keypoints' of .* fit as those of images 0.5 times as large",
    ),
]


@pytest.mark.parametrize(("change", "says"), WHOLE_FILES, ids=[says for _, says in WHOLE_FILES])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_file_that_contradicts_itself_is_refused_with_what_it_holds(
    save: Callable[..., Path], change: Change, says: str, on_error: Any
) -> None:
    path = save(change)
    with pytest.raises(AnnotationError, match=rf"(?m){path}: {says}.*, such as image id \d+: .*"):
        load_annotations(path, on_error)


def test_a_file_can_be_used_as_it_stands(save: Callable[..., Path]) -> None:
    path = save(box(lambda b, s: b / 2))
    with pytest.raises(AnnotationError, match=r"with data\.verify_fields=false"):
        load_annotations(path)
    assert len(load_annotations(path, verify_fields=False).instances) == PEOPLE


def test_a_part_of_a_file_in_another_form_is_refused(save: Callable[..., Path]) -> None:
    path = save(box(centred), range(0, PEOPLE, 4))
    with pytest.raises(AnnotationError, match=r"'bbox' of 3 of 12 people .*; 3 fit as centre x"):
        load_annotations(path)


def test_single_people_are_warned_of_or_left_out(
    save: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = save(box(lambda b, s: b / 2), range(4, 6))
    with caplog.at_level(logging.WARNING):
        assert len(load_annotations(path).instances) == PEOPLE
    (record,) = caplog.records
    assert "used as it stands: 2 x 'bbox' against the mask. The first: " in record.message
    assert (
        "image id 5: 'bbox' contradicts the mask, and fits as those of images 0.5 times"
        in record.message
    )
    loaded = load_annotations(path, "skip")
    assert [person.image_id for person in loaded.instances] == [1, 2, 3, 4, *range(7, 13)]
    assert [problem.image_ids for problem in loaded.skipped] == [(5,), (6,)]


def test_exchanged_people_are_named(
    drawn: dict[str, Any], save: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (drawn["annotations"][number]["keypoints"] for number in (0, 1))

    def exchange(annotation: dict[str, Any], _: Array) -> None:
        annotation["keypoints"] = second if annotation["keypoints"] == first else first

    with caplog.at_level(logging.WARNING):
        load_annotations(save(exchange, range(2)))
    assert "2 x 'keypoints' against the mask" in caplog.text
    assert "and fits as another person's" in caplog.text


def test_exchanged_height_and_width_are_named(drawn: dict[str, Any], tmp_path: Path) -> None:
    """Of a file of polygons; run lengths say themselves that they have another size."""
    images = [{**i, "height": i["width"], "width": i["height"]} for i in drawn["images"][::3]]
    content = {"images": images, "annotations": drawn["annotations"][::3]}
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=r"'height' and 'width' of .* contradicts 'bbox'; "):
        load_annotations(path)


def test_coarse_and_partial_masks_are_not_refused(
    drawn: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Boxes as masks, the area that of the person; and masks of a visible half."""
    content = json.loads(json.dumps(drawn))
    for number, annotation in enumerate(content["annotations"]):
        x, y, w, h = annotation["bbox"]
        h = h * 0.55 if number % 2 else h
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        annotation["area"] = w * h if number % 2 else annotation["area"]
        annotation["scribble"] = [int(x + w / 2), int(y + h / 2)] * 60
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        assert len(load_annotations(path).instances) == PEOPLE
    assert not caplog.records


def test_boxes_around_hidden_parts_are_only_warned_of(
    drawn: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.loads(json.dumps(drawn))
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        y, h = y + h * 0.55, h * 0.4
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        annotation["area"] = w * h
        annotation["scribble"] = [int(x + w / 2), int(y + h / 2)] * 60
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        assert len(load_annotations(path).instances) == PEOPLE
    assert "x 'bbox' against the mask" in caplog.text


def test_real_people_do_not_contradict_themselves(
    refhuman_mini: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for name in ("RefHuman_train.json", "RefHuman_val.json"):
            load_annotations(refhuman_mini / name)
    assert not caplog.records


def test_what_is_no_number_is_not_judged(drawn: dict[str, Any]) -> None:
    image, annotation = drawn["images"][0], drawn["annotations"][0]
    odd = {"bbox": [1, 2, "x", 4], "area": 10**400, "keypoints": [float("nan")] * 51, "scribble": 3}
    geometry = read_geometry(image, {**annotation, **odd}, 17)
    assert isinstance(geometry, Geometry)
    assert geometry.bbox is geometry.area is geometry.keypoints is geometry.scribbles is None
    found = find_contradictions([geometry] * 3, "file.json")
    assert not found.systematic
    assert not found.single
    assert find_contradictions([], "file.json") == found
    assert read_geometry(image, {**annotation, "segmentation": []}, 17) is None
