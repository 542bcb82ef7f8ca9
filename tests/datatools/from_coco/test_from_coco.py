"""Who is taken, with which words, and what is said about the others."""

from __future__ import annotations

import json
import pickle
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.datatools.from_coco.coco_file import person, record, write_coco
from uniphd.cli.data import main
from uniphd.datatools.from_coco import convert as conversion

SMALL = (10, 10, 5, 5)  # 0.3 % of the image
SIDES = ((5, 10, 20, 40), (70, 10, 20, 40))
FOUR = [(x, 10, 15, 40) for x in (0, 25, 50, 75)]


def made(folder: Path, name: str = "RefHuman_train.json") -> dict[str, Any]:
    return json.loads((folder / "out" / name).read_text())


def run(folder: Path, *options: str) -> dict[str, Any]:
    main(
        [
            "from-coco",
            str(folder / "coco.json"),
            str(folder / "photos"),
            str(folder / "out"),
            *options,
        ]
    )
    return made(folder)


def fails(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> str:
    """The sentence that a run ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(folder, *options)
    assert not (folder / "out" / "RefHuman_train.json").exists()
    return str(caught.value)


def ids(content: dict[str, Any]) -> list[int]:
    assert [entry["id"] for entry in content["images"]] == [
        entry["image_id"] for entry in content["annotations"]
    ]
    return [entry["coco_ann_id"] for entry in content["annotations"]]


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """Image 1: four people; image 2: three and a crowd; image 3: one each that lacks something."""
    write_coco(
        tmp_path,
        [
            *(person(10 + n, 1, box) for n, box in enumerate(FOUR)),
            *(person(20 + n, 2, box) for n, box in enumerate(FOUR[:3])),
            person(23, 2, FOUR[3], iscrowd=1, segmentation={"size": [80, 100], "counts": [8000]}),
            *(person(30 + n, 3, box) for n, box in enumerate(FOUR[:2])),
            person(32, 3, FOUR[2], labelled=7),
            person(33, 3, SMALL),
            person(34, 3, FOUR[3], labelled=0),
            person(35, 3, FOUR[3], category_id=3),
        ],
    )
    return tmp_path


def test_the_rules_of_the_training_file(crowded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ids(run(crowded)) == [10, 11, 12, 13, 30, 31]
    said = capsys.readouterr().out
    for line in (
        "14 annotations",
        "1  of another class",
        "1  crowd, not a person",
        "3  fewer than 3 other people in the image",
        "2  fewer than 8 labelled keypoints",
        "1  area below 2 % of the image",
        "6  people in 2 images, in 6 entries",
    ):
        assert line in " ".join(said.split(" ")), line
    assert made(crowded)["info"]["report"]["left_out"]["crowd, not a person"] == 1


def test_the_rules_of_the_validation_file(crowded: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run(crowded, "--like", "refhuman-val")
    assert ids(made(crowded, "RefHuman_val.json")) == [*range(10, 14), *range(20, 23), 30, 31, 32]


def test_everybody_and_rules_of_ones_own(crowded: Path) -> None:
    assert ids(run(crowded, "--all")) == [*range(10, 14), *range(20, 23), *range(30, 34)]
    content = run(crowded, "--all", "--overwrite", "--min-others", "4", "--min-area", "0.01")
    assert ids(content) == [30, 31, 32]


def test_somebody_at_the_threshold_is_taken(tmp_path: Path) -> None:
    write_coco(tmp_path, [person(1, 1, (0, 0, 10, 16)), person(2, 1, (50, 0, 10, 15.9))])
    assert ids(run(tmp_path, "--min-others", "1")) == [1]


def test_nobody_left_is_an_error_that_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco(tmp_path, [person(1, 1, SIDES[0])])
    said = fails(capsys, tmp_path)
    assert "nobody left (1 x fewer than 3 other people in the image); choose weaker rules" in said


@pytest.mark.slow  # starts processes
def test_the_same_file_whatever_the_number_of_workers(crowded: Path) -> None:
    run(crowded, "--all", "--workers", "1")
    first = (crowded / "out" / "RefHuman_train.json").read_bytes()
    run(crowded, "--all", "--workers", "2", "--overwrite")
    assert (crowded / "out" / "RefHuman_train.json").read_bytes() == first


def test_a_seed_changes_the_scribbles_alone(crowded: Path) -> None:
    before = run(crowded, "--all")["annotations"]
    after = run(crowded, "--all", "--seed", "1", "--overwrite")["annotations"]
    for first, second in zip(before, after, strict=True):
        assert first.pop("scribble") != second.pop("scribble") or first["area"] < 100
    assert before == after


def test_images_that_are_not_there_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = [person(1, 1, SIDES[0]), person(2, 2, SIDES[0]), person(3, 2, SIDES[1])]
    write_coco(tmp_path, people, absent=[2])
    assert ids(run(tmp_path, "--all")) == [1]
    said = capsys.readouterr().out
    assert "2  image not in the folder" in said
    assert "missing images: 002.png" in said
    (tmp_path / "photos" / "001.png").unlink()
    with pytest.raises(SystemExit, match=r"has none of the 2 images, such as 001\.png"):
        run(tmp_path, "--all", "--overwrite")


def test_people_who_cannot_be_used_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco(
        tmp_path,
        [
            person(1, 1, SIDES[0]),
            person(2, 1, SIDES[1], bbox=[1, 2, 0, 0]),
            person(3, 1, SIDES[1], segmentation=[]),
            person(4, 1, SIDES[1], keypoints=[500, 500, 2] * 17),
        ],
    )
    assert ids(run(tmp_path, "--all")) == [1]
    said = capsys.readouterr().out
    for kind in ("box without area", "missing segmentation", "keypoint outside of the image"):
        assert f"1  field that cannot be used: {kind}" in said


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three images of two people each."""
    people = [person(10 * n + k, n, SIDES[k]) for n in (1, 2, 3) for k in (0, 1)]
    write_coco(tmp_path, people)
    return tmp_path


RECORDS = [
    record(10, 1, "train", "Left Guy", "the  one in red", "left guy"),
    record(20, 2, "val", "man on left"),
    record(31, 3, "testB", "woman"),
    record(99, 4, "train", "a dog"),
]


def pickled(folder: Path, records: Sequence[Any]) -> str:
    path = folder / "refs(unc).p"
    path.write_bytes(pickle.dumps(list(records), 2))
    return str(path)


def as_json(folder: Path, records: Sequence[Any]) -> str:
    (folder / "refs.json").write_text(json.dumps(list(records)))
    return str(folder / "refs.json")


def as_lines(folder: Path, records: Sequence[Any]) -> str:
    (folder / "refs.jsonl").write_text("\n".join(map(json.dumps, records)))
    return str(folder / "refs.jsonl")


def by_split(folder: Path, records: Sequence[Any]) -> str:
    splits: dict[str, list[Any]] = {}
    for row in records:
        rest = {key: value for key, value in row.items() if key != "split"}
        splits.setdefault(row["split"], []).append(rest)
    (folder / "refs.json").write_text(json.dumps(splits))
    return str(folder / "refs.json")


def as_parquet(folder: Path, records: Sequence[Any]) -> str:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(list(records)), folder / "refs.parquet")
    return str(folder / "refs.parquet")


@pytest.mark.parametrize("write", [pickled, as_json, as_lines, by_split, as_parquet])
def test_expressions_are_joined_by_annotation_id(
    write: Callable[[Path, Sequence[Any]], str], pairs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = run(pairs, "--all", "--refer", write(pairs, RECORDS))
    captions = {entry["id"]: entry["captions"] for entry in content["images"]}
    assert captions == {
        10: ["left guy", "the one in red"], 11: [], 20: ["man on left"], 21: [], 30: [],
        31: ["woman"],
    }  # fmt: skip
    assert [entry.get("caption") for entry in content["images"]] == [
        *("left guy", None, "man on left", None, None, "woman")
    ]
    (warning,) = caplog.records
    assert "4 people are in images of RefCOCO's validation and test splits, 2 of" in warning.message


def test_leaving_out_the_images_of_the_evaluation(
    pairs: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    refs = pickled(pairs, RECORDS)
    content = run(pairs, "--all", "--refer", refs, "--exclude", "refcoco-eval")
    assert ids(content) == [10, 11]
    assert "4  image excluded" in capsys.readouterr().out
    assert not caplog.records
    (pairs / "ids.txt").write_text("1\n3\n")
    excluded = ("--exclude", str(pairs / "ids.txt"), "--overwrite")
    assert ids(run(pairs, "--all", *excluded)) == [20, 21]
    with pytest.raises(SystemExit, match="needs files of expressions with validation"):
        run(pairs, "--all", "--exclude", "refcoco-eval", "--overwrite")


def test_an_evaluation_file_has_every_sentence(
    pairs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refs = pickled(pairs, [record(10, 1, "val", "left guy", "in red"), *RECORDS[1:]])
    content = run(
        *(pairs, "--all", "--refer", refs, "--splits", "val", "--text-only", "--per-sentence")
    )
    assert [(entry["id"], entry["caption"]) for entry in content["images"]] == [
        *((10_000, "left guy"), (10_001, "in red"), (20_000, "man on left"))
    ]
    assert ids(content) == [10, 10, 20]
    assert not caplog.records


def test_test_is_test_a_where_there_is_test_b(pairs: Path) -> None:
    refs = pickled(pairs, [record(10, 1, "test", "a"), record(20, 2, "testB", "b")])
    assert ids(run(pairs, "--all", "--refer", refs, "--splits", "testA", "--text-only")) == [10]
    refs = pickled(pairs, [record(10, 1, "test", "a"), record(20, 2, "validation", "b")])
    options = ("--all", "--refer", refs, "--text-only", "--overwrite")
    assert ids(run(pairs, *options, "--splits", "test")) == [10]
    assert ids(run(pairs, *options, "--splits", "val")) == [20]


BAD_RECORDS = {
    "split": ([{**RECORDS[0], "split": "dev"}], "record 0 has the split 'dev'; known are train"),
    "no split": ([{**RECORDS[0], "split": None}], "record 0 has the split None"),
    "image": ([{**RECORDS[0], "image_id": 3}], "has the annotation 10 in image 3, .* in image 1"),
    "nobody": ([RECORDS[3]], "means nobody in"),
    "no id": ([{"question": "?", "split": "val"}], "no integers 'ann_id' and 'image_id'"),
    "no sentences": ([{**RECORDS[0], "sentences": "a"}], "has 'a' as 'sentences'"),
    "a number": ([{**RECORDS[0], "sentences": [7]}], "has a sentence that is no text"),
    "no record": ([7], "record 0 is 7; give records of REFER"),
    "none": ([], "has no expressions"),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_expressions_that_mean_something_else_are_refused(
    name: str, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, says = BAD_RECORDS[name]
    assert re.search(says, fails(capsys, pairs, "--all", "--refer", as_json(pairs, records)))


def test_a_file_of_captions_is_for_those_without_expressions(pairs: Path) -> None:
    lines = [{"annotation_id": 10, "caption": "x"}, {"annotation_id": 11, "captions": ["a", "b"]}]
    (pairs / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    refs = pickled(pairs, RECORDS)
    options = ("--all", "--refer", refs, "--captions", str(pairs / "mine.jsonl"), "--template")
    content = run(pairs, *options)
    captions = {entry["id"]: entry["captions"] for entry in content["images"]}
    assert captions[10] == ["left guy", "the one in red"]
    assert captions[11] == ["a", "b"]
    assert captions[30] == ["the person on the far left", "the leftmost person"]
    sources = [entry["caption_source"] for entry in content["images"]]
    assert sources == ["refer", "file", "refer", "template", "template", "refer"]


@pytest.mark.parametrize("line", ["{", '{"id": 7}', '{"annotation_id": 7, "captions": []}', "7"])
def test_a_line_that_is_no_caption_is_named(
    line: str, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pairs / "mine.jsonl").write_text(f'{{"annotation_id": 10, "caption": "x"}}\n{line}\n')
    said = fails(capsys, pairs, "--all", "--captions", str(pairs / "mine.jsonl"))
    assert "mine.jsonl, line 2 is" in said


def test_the_file_appears_as_a_whole(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        assert threading.current_thread() is threading.main_thread()
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "_about", interrupted)
    (pairs / "out").mkdir()
    (pairs / "out" / "RefHuman_train.json").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        run(pairs, "--all", "--overwrite")
    assert (pairs / "out" / "RefHuman_train.json").read_text() == "before"
    assert {path.name for path in (pairs / "out").iterdir()} == {"RefHuman_train.json", "images"}


def test_what_is_there_is_not_replaced(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(pairs, "--all")
    with pytest.raises(SystemExit, match=r"RefHuman_train\.json exists; give another --name"):
        run(pairs, "--all")
    other = pairs / "elsewhere" / "photos"
    (pairs / "photos").rename(pairs / "gone")
    (pairs / "gone").rename(pairs / "moved")
    other.parent.mkdir()
    (pairs / "moved").rename(other)
    with pytest.raises(SystemExit, match="is not a link to"):
        main(["from-coco", str(pairs / "coco.json"), str(other), str(pairs / "out"), "--all",
              "--name", "b.json"])  # fmt: skip


def test_images_inside_of_the_data_set_stay_there(pairs: Path) -> None:
    (pairs / "out").mkdir()
    (pairs / "photos").rename(pairs / "out" / "images")
    main(["from-coco", str(pairs / "coco.json"), str(pairs / "out" / "images"),
          str(pairs / "out"), "--all"])  # fmt: skip
    assert made(pairs)["images"][0]["file_name"] == "001.png"
