"""Annotation files: what is read, and one sentence for everything that can be wrong."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.refhuman_folder import decode
from uniphd.data.annotations import load_annotations
from uniphd.errors import AnnotationError, ConfigError

Content = dict[str, Any]
Change = Callable[[Content], object]


def changed(folder: Path, change: Change) -> Path:
    """The training file after a change of its content."""
    path = folder / "RefHuman_train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def image(**fields: Any) -> Change:
    return lambda content: content["images"][2].update(fields)


def annotation(**fields: Any) -> Change:
    return lambda content: content["annotations"][2].update(fields)


def remove(group: str, field: str) -> Change:
    return lambda content: content[group][2].pop(field)


def entry(field: str, position: int, value: Any) -> Change:
    """One number of a list of the third annotation."""
    return lambda content: content["annotations"][2][field].__setitem__(position, value)


def move_scribble_off(content: Content) -> None:
    person = content["annotations"][2]
    x, y, _, _ = person["bbox"]
    person["scribble"][24:26] = [int(x), int(y)]  # the silhouette leaves the corner of its box free


PER_RECORD: list[tuple[str, Change, str]] = [
    # kind, change of image id 3 = annotation id 3, what the message says
    ("missing caption", remove("images", "caption"), "'caption' is missing"),
    ("missing caption", image(caption=" \t"), "'caption' is empty"),
    ("wrong caption", image(caption=7), "'caption' is 7"),
    ("wrong captions", image(captions="a man"), "'captions' is 'a man'"),
    ("wrong captions", image(captions=["a man", 7]), "'captions' is ['a man', 7]"),
    ("missing height", remove("images", "height"), "'height' is missing"),
    ("wrong size", image(width=0), "'height' and 'width'"),
    ("wrong size", image(height=100.5), "two positive integers"),
    ("wrong size", image(height=10**6, width=10**6), "too large"),
    ("missing file_name", remove("images", "file_name"), "'file_name' is missing"),
    ("unsafe path", image(file_name="/etc/passwd"), "leaves the image folder"),
    ("unsafe path", image(file_name="a/../../b.jpg"), "leaves the image folder"),
    ("unsafe path", image(file_name="..\\b.jpg"), "leaves the image folder"),
    ("unsafe path", image(file_name="C:\\b.jpg"), "leaves the image folder"),
    ("unsafe path", image(file_name="a\0.jpg"), "has a NUL"),
    ("wrong file_name", image(file_name="a\ud800.jpg"), "which is no text"),
    ("wrong caption", image(caption="a \udc80 man"), "which is no text"),
    ("wrong caption", image(caption=["word"] * 10**5), "'caption' is ['word', 'word', "),
    ("wrong captions", image(captions=["a \ud800"]), "give a list of texts"),
    ("missing bbox", remove("annotations", "bbox"), "'bbox' is missing"),
    ("wrong bbox", annotation(bbox="1 2 3 4"), "not a list of numbers"),
    ("wrong bbox", annotation(bbox=[1, 2, 3]), "3 numbers and needs 4"),
    ("NaN or infinite number", entry("bbox", 0, float("nan")), "NaN or infinite"),
    ("NaN or infinite number", entry("bbox", 2, 10**400), "NaN or infinite"),
    ("wrong bbox", entry("bbox", 2, True), "not a list of numbers"),
    ("box without area", entry("bbox", 2, 0), "has no area"),
    ("box without area", entry("bbox", 3, -5), "has no area"),
    ("box without area", annotation(bbox=[-1, 5, 1, 9]), "no area on the image"),
    ("box without area", annotation(bbox=[9, 5, 1e-7, 9]), "no area on the image"),
    ("box outside of the image", entry("bbox", 2, 500), "leaves the"),
    ("box outside of the image", entry("bbox", 1, -1.5), "leaves the"),
    ("missing area", remove("annotations", "area"), "'area' is missing"),
    ("wrong area", annotation(area=0), "'area' is 0"),
    ("NaN or infinite number", annotation(area=float("nan")), "'area' is nan"),
    ("wrong area", annotation(area=10**400), "'area' is 1000"),
    ("wrong area", annotation(area=10**6), "above 0 and at most"),
    ("missing keypoints", remove("annotations", "keypoints"), "'keypoints' is missing"),
    ("wrong keypoints", annotation(keypoints=[1, 2, 2]), "3 numbers and needs 51"),
    ("wrong visibility", entry("keypoints", 2, 3), "visibility"),
    (
        "keypoint outside of the image",
        annotation(keypoints=[900, 5, 2] + [10, 10, 2] * 16),
        "the nose at [900, 5]",
    ),
    ("missing segmentation", remove("annotations", "segmentation"), "'segmentation' is missing"),
    ("missing segmentation", annotation(segmentation=[]), "no polygon"),
    ("wrong segmentation", annotation(segmentation=[[10**400] * 6]), "'segmentation'"),
    ("empty mask", annotation(segmentation=[[5, 5, 5, 5, 5, 5]]), "covers no pixel"),
    ("missing scribble", remove("annotations", "scribble"), "point and scribble prompts are made"),
    ("missing scribble", annotation(scribble=None), "'scribble' is missing"),
    ("missing scribble", annotation(scribble=[]), "'scribble' is missing"),
    ("wrong scribble", annotation(scribble=[5] * 118), "118 numbers and needs 120"),
    ("wrong scribble", entry("scribble", 3, None), "not a list of numbers"),
    ("NaN or infinite number", entry("scribble", 3, float("inf")), "NaN or infinite"),
    ("scribble outside of the mask", move_scribble_off, "'scribble' 1 has point 0 at"),
    ("scribble outside of the mask", entry("scribble", 0, -1), "'scribble' 0 has point 0 at [-1,"),
    ("scribble outside of the mask", entry("scribble", 1, 1e300), "'scribble' 0 has point 0"),
    ("crowd", annotation(iscrowd=2), "'iscrowd' is 2"),
    ("not a person", annotation(category_id=18), "'category_id' is 18"),
    ("missing id", remove("annotations", "id"), "'id' of its annotation"),
    ("missing id", annotation(id=2**63), "'id' of its annotation"),
    (
        "several annotations",
        lambda content: content["annotations"].append({**content["annotations"][2], "id": 99}),
        "2 for it (ids 3, 99)",
    ),
    (
        "repeated image id",
        lambda content: content["images"].append(content["images"][2]),
        "this id 2 times",
    ),
]


@pytest.mark.parametrize(("kind", "change", "says"), PER_RECORD)
def test_a_bad_record_is_named_and_can_be_skipped(
    folder: Path, kind: str, change: Change, says: str
) -> None:
    path = changed(folder, change)
    with pytest.raises(AnnotationError) as caught:
        load_annotations(path)
    head, line, *more = str(caught.value).splitlines()
    assert not more
    assert str(path) in head
    assert "1 problem;" in head
    assert f"{path}, image id 3" in line
    assert says in line
    assert line.endswith(".")

    result = load_annotations(path, on_error="skip")
    assert [person.image_id for person in result.instances] == [1, 2, 4, 5, 6, 7, 8]
    (problem,) = result.skipped
    assert problem.kind == kind
    assert problem.image_ids == (3,)
    assert problem.message == line.strip()


@pytest.mark.parametrize(
    "change", [annotation(bbox=[0, 0, 5, 0]), remove("annotations", "scribble"), annotation(area=0)]
)
def test_a_message_about_an_annotation_names_its_id(folder: Path, change: Change) -> None:
    with pytest.raises(AnnotationError, match="image id 3, annotation id 3:"):
        load_annotations(changed(folder, change))


def test_entries_that_no_record_comes_from(folder: Path) -> None:
    def change(content: Content) -> None:
        content["annotations"].append({"id": 51})
        content["images"].append({"id": "nine"})
        content["images"].append(None)

    result = load_annotations(changed(folder, change), on_error="skip")
    assert len(result.instances) == 8
    assert [problem.kind for problem in result.skipped] == ["missing id"] * 3
    assert "images[8]: 'id'" in result.skipped[0].message
    assert "images[9]: 'id'" in result.skipped[1].message
    assert "annotations[8]: 'image_id'" in result.skipped[2].message


def crowd_beside(content: Content) -> None:
    """A crowd with a broken mask, the id of another annotation, and a person beside it."""
    crowd = {**content["annotations"][2], "iscrowd": 1, "segmentation": [], "id": 4}
    content["annotations"].append(crowd)


LEFT_OUT: list[tuple[str, Change, bool]] = [
    # what is counted, change of image id 3, whether its person is left
    ("1 x crowd", crowd_beside, True),
    ("1 x crowd, 1 x image without annotation", annotation(iscrowd=1), False),
    ("1 x crowd, 1 x image without annotation", annotation(iscrowd=True), False),
    ("1 x image without annotation", lambda content: content["annotations"].pop(2), False),
    ("1 x person without keypoints", annotation(keypoints=[0] * 51, bbox=[0, 0, 0, 0]), False),
    ("1 x person without keypoints", annotation(keypoints=[-1.0, 7, 0] * 17), False),
    ("1 x annotation without image", lambda content: content["images"].pop(2), False),
]


@pytest.mark.parametrize(("counts", "change", "stays"), LEFT_OUT)
def test_what_the_official_loader_leaves_out_is_counted(
    folder: Path, caplog: pytest.LogCaptureFixture, counts: str, change: Change, stays: bool
) -> None:
    path = changed(folder, change)
    result = load_annotations(path)
    assert [p.image_id for p in result.instances] == [1, 2, *[3] * stays, 4, 5, 6, 7, 8]
    assert not result.skipped
    (record,) = caplog.records
    assert record.message == f"{path}: left out, as the official loader does: {counts}"


def test_a_file_of_crowds_has_nobody(folder: Path) -> None:
    def spoil(content: Content) -> None:
        for entry in content["annotations"]:
            entry["iscrowd"] = 1

    with pytest.raises(AnnotationError, match="no valid record"):
        load_annotations(changed(folder, spoil))


def test_scribbles_may_be_missing_where_no_prompt_is_made_of_them(folder: Path) -> None:
    path = changed(folder, remove("annotations", "scribble"))
    people = load_annotations(path, scribble_prompts=()).instances
    assert [len(person.scribbles) for person in people] == [5, 5, 0, 5, 5, 5, 5, 5]
    with pytest.raises(AnnotationError, match="of which point prompts are made"):
        load_annotations(path, scribble_prompts=("point",))


@pytest.mark.parametrize(
    "name", ["./a.jpg", "a.jpg", ".//a.jpg", "x/a.jpg", "x//a.jpg", "x\\\\a.jpg", ".\\x\\.\\a.jpg"]
)
def test_notations_of_a_path_are_one(folder: Path, name: str) -> None:
    person = load_annotations(changed(folder, image(file_name=name))).instances[2]
    assert person.file_name == ("x/a.jpg" if "x" in name else "a.jpg")


def test_a_repeated_annotation_id_costs_both_records(folder: Path) -> None:
    path = changed(folder, annotation(id=1))
    result = load_annotations(path, on_error="skip")
    assert [person.image_id for person in result.instances] == [2, 4, 5, 6, 7, 8]
    assert {problem.kind for problem in result.skipped} == {"repeated annotation id"}


def test_ten_problems_are_listed_and_all_are_counted(folder: Path, tmp_path: Path) -> None:
    def spoil(content: Content) -> None:
        for number in range(30):
            content["images"].append({"id": f"{number}"})

    with pytest.raises(AnnotationError) as caught:
        load_annotations(changed(folder, spoil))
    lines = str(caught.value).splitlines()
    assert "30 problems" in lines[0]
    assert len(lines) == 12
    assert lines[-1].strip() == "... and 20 more."


def test_skipping_logs_the_number_of_each_kind(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(content: Content) -> None:
        for number in (0, 1):
            content["annotations"][number]["category_id"] = 2
        content["images"][4]["caption"] = ""

    with caplog.at_level(logging.WARNING):
        load_annotations(changed(folder, spoil), on_error="skip")
    (record,) = caplog.records
    assert record.message.endswith("2 x not a person, 1 x missing caption")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cut off"),
        ("\xff\xfe{\0", "cut off"),
        ("{]", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "no list 'images'"),
        ('{"images": {}}', "no list 'images'"),
        ('{"images": []}', "no list 'annotations'"),
        ('{"images": [], "annotations": []}', "no valid record"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_file_that_is_none_stops_always(
    tmp_path: Path, text: str, says: str, on_error: Any
) -> None:
    path = tmp_path / "RefHuman_val.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(AnnotationError, match=says):
        load_annotations(path, on_error)


def test_a_missing_file_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"nowhere\.json does not exist; point data\.root"):
        load_annotations(tmp_path / "nowhere.json")


def test_an_unlabelled_keypoint_may_have_any_coordinates(folder: Path) -> None:
    far = entry("keypoints", slice(0, 3), [1e300, -1e300, 0])
    people = load_annotations(changed(folder, far)).instances
    assert people[2].keypoints[0].tolist() == [0, 0, 0]


def test_messages_are_short_whatever_a_file_holds(folder: Path) -> None:
    def change(content: Content) -> None:
        content["images"][2]["caption"] = {"a": ["b" * 10**6] * 100}
        content["images"][3]["width"] = 10**4000
        content["annotations"][4]["iscrowd"] = [[[[[["deep" * 10**5]]]]]]
        content["images"].append({"id": 2**70})

    result = load_annotations(changed(folder, change), on_error="skip")
    assert len(result.skipped) == 4
    assert max(len(problem.message) for problem in result.skipped) < 400 + len(str(folder))


def test_an_unknown_policy_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="on_error"):
        load_annotations(folder / "RefHuman_train.json", "ignore")  # type: ignore[arg-type]


def test_a_box_may_leave_the_image_by_a_rounding(folder: Path) -> None:
    def shift(content: Content) -> None:
        width = content["images"][2]["width"]
        content["annotations"][2]["bbox"] = [-0.4, 5, width + 0.8, 20]

    person = load_annotations(changed(folder, shift)).instances[2]
    assert person.bbox[0] == -0.4


@pytest.mark.parametrize(("name", "count"), [("train", 61), ("val", 29)])
def test_real_records_are_all_valid_and_as_pycocotools_reads_them(
    refhuman_mini: Path, name: str, count: int
) -> None:
    path = refhuman_mini / f"RefHuman_{name}.json"
    people = load_annotations(path).instances
    coco = COCO(path)
    assert [person.image_id for person in people] == sorted(coco.imgs)
    assert len(people) == count
    for person in people:
        entry = coco.imgs[person.image_id]
        (truth,) = coco.imgToAnns[person.image_id]
        assert (person.file_name, person.caption) == (entry["file_name"], entry["caption"])
        assert person.annotation_id == truth["id"]
        assert list(person.bbox) == truth["bbox"]
        assert person.area == truth["area"]
        assert person.num_keypoints == truth["num_keypoints"]
        assert person.keypoints.flatten().tolist() == truth["keypoints"]
        assert person.scribbles.flatten().tolist() == truth["scribble"]
        np.testing.assert_array_equal(person.mask(), decode(coco.annToRLE(truth)))
