"""`uniphd-data check`: every planted fault is found as what it is, and mended or left out."""

from __future__ import annotations

import copy
import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tests.datatools import plants as p
from tests.refhuman_folder import write_refhuman
from uniphd.cli.data import main
from uniphd.data.annotations import load_annotations
from uniphd.data.images import verify_images
from uniphd.datatools.check.kinds import KINDS

PEOPLE = 12


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve people in six images, and six in three; nothing is wrong with them."""
    return write_refhuman(tmp_path_factory.mktemp("clean"), people=PEOPLE, seed=3)


def check(root: Path, *options: str) -> int:
    """The exit status of the command."""
    with pytest.raises(SystemExit) as end:
        main(["check", str(root), "--workers", "1", *options])
    assert isinstance(end.value.code, int)
    return end.value.code


def found(root: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """What is found: kinds and how often."""
    capsys.readouterr()
    check(root, "--json", "-")
    problems: dict[str, Any] = json.loads(capsys.readouterr().out)["problems"]
    return {name: problem["count"] for name, problem in problems.items()}


def nan_box(folder: p.Folder) -> None:
    folder.annotation(2)["bbox"][1] = float("nan")


def fractions(points: Any, size: Any, box: Any) -> Any:
    return points / size


def swapped(points: Any, size: Any, box: Any) -> Any:
    return points[:, ::-1]


def halved_polygon(folder: p.Folder) -> None:
    p.a_polygon()(folder).append([1, 2, 3, 4])


def nan_polygon(folder: p.Folder) -> None:
    p.a_polygon()(folder).append([1, 2, 3, float("nan"), 5, 6])


def flat_polygon(folder: p.Folder) -> None:
    person = folder.annotation(3)
    person["segmentation"] = p.a_polygon()(folder)[0]


def resized_mask(folder: p.Folder) -> None:
    from PIL import Image

    from tests.refhuman_folder import decode

    entry, person = folder.image(2), folder.annotation(2)
    mask = decode(p.runs(person, entry))
    half = np.asarray(Image.fromarray(mask).resize((2 * entry["width"], 2 * entry["height"]), 0))
    encoded = coco_mask.encode(np.asfortranarray(half))
    person["segmentation"] = {"size": list(half.shape), "counts": encoded["counts"].decode()}


def caption_twice(folder: p.Folder) -> None:
    one, two = folder.people_of(2)
    folder.image(two)["caption"] = folder.image(one)["caption"].upper() + "."


def repeated_image_id(folder: p.Folder) -> None:
    folder.content["images"].append({**folder.image(2), "caption": "somebody in the image"})


def copied_image_entry(folder: p.Folder) -> None:
    folder.content["images"].append(copy.deepcopy(folder.image(2)))


def other_image_same_id(folder: p.Folder) -> None:
    folder.content["images"].append({**folder.image(6), "id": folder.image(2)["id"]})


def second_person(folder: p.Folder) -> None:
    folder.content["annotations"].append(
        {**folder.annotation(3), "id": 960, "image_id": folder.image(2)["id"]}
    )


def second_copy(folder: p.Folder) -> None:
    folder.content["annotations"].append({**copy.deepcopy(folder.annotation(2)), "id": 960})


def one_person_less(folder: p.Folder) -> None:
    del folder.content["annotations"][2]


def one_image_less(folder: p.Folder) -> None:
    del folder.content["images"][2]


def unlabelled(folder: p.Folder) -> None:
    folder.annotation(2).update(keypoints=[0] * 51, num_keypoints=0)


def crowd(folder: p.Folder) -> None:
    folder.content["annotations"].append({**folder.annotation(3), "id": 961, "iscrowd": 1})


def repeated_row(folder: p.Folder) -> None:
    _, person = p.copy_row(folder, caption=folder.image(2)["caption"].title())
    labelled = [k for k in range(17) if person["keypoints"][3 * k + 2] == 2]
    person["keypoints"][3 * labelled[0] + 2] = 1


def xyxy(box: Any, size: Any) -> Any:
    return np.r_[box[:2], box[:2] + box[2:]]


def centre(box: Any, size: Any) -> Any:
    return np.r_[box[:2] + box[2:] / 2, box[2:]]


def one_based(entry: Any, person: Any) -> None:
    shape = p.runs(person, entry)
    person["bbox"] = (coco_mask.toBbox([shape])[0] + [1, 1, 0, 0]).tolist()


def area_of_box(entry: Any, person: Any) -> None:
    person["area"] = person["bbox"][2] * person["bbox"][3]


def scribble_off(folder: p.Folder) -> None:
    folder.annotation(2)["scribble"][10:12] = [0, 0]


def swapped_scribbles(entry: Any, person: Any) -> None:
    person["scribble"] = np.array(person["scribble"]).reshape(-1, 2)[:, ::-1].ravel().tolist()


NFD = unicodedata.normalize("NFD", "é_")
NFC = unicodedata.normalize("NFC", "é_")

MENDED: list[tuple[str, p.Plant]] = [
    ("not in UTF-8", p.encode("latin-1")),
    ("person is not category 1", p.categories({"id": 0, "name": "person"}, people=0)),
    (
        "person is not category 1",
        p.categories({"id": 1, "name": "dog"}, {"id": 4, "name": "Person"}, people=4),
    ),
    ("no category of people", p.categories({"id": 1, "name": "pedestrian"})),
    ("keypoints in another order", p.alphabetical(named=True)),
    ("keypoints in another order than named", p.alphabetical(named=False)),
    ("missing id", p.without("annotations", "id")),
    ("missing id", p.annotation(id="3")),
    ("repeated annotation id", p.annotation(id=1)),
    ("repeated image id", repeated_image_id),
    ("backslash", p.two(p.rename_file(lambda n: f"sub/{n}"), p.set_name(lambda n: f"sub\\{n}"))),
    ("file name in another Unicode form", p.rename_file(lambda n: NFD + n, lambda n: NFC + n)),
    ("file name in another letter case", p.rename_file(str.upper)),
    ("image in another folder", p.rename_file(lambda n: f"deep/{n}")),
    ("unsafe path", p.set_name(lambda n: f"../../media/{n}")),
    ("link out of the folder", p.link_out),
    ("missing height", p.without("images", "height")),
    ("missing width", p.without("images", "width")),
    ("wrong size", p.image(width=-3)),
    ("wrong size", p.image(height="100")),
    ("image size", p.exchanged_size),
    ("image size", p.other_size(2)),
    ("turned image", p.image_file(p.with_orientation(6))),
    ("EXIF orientation", p.image_file(p.with_orientation(3))),
    ("image under two names", p.under_two_names),
    ("polygon without three corners", halved_polygon),
    ("wrong segmentation", flat_polygon),
    ("NaN or infinite number", nan_polygon),
    ("NaN or infinite number", nan_box),
    ("NaN or infinite number", p.number("keypoints", 1, float("inf"))),
    ("NaN or infinite number", p.number("scribble", 1, float("nan"))),
    ("NaN or infinite number", p.annotation(area=float("nan"))),
    ("mask of another size", p.exchanged_mask),
    ("mask of another size", resized_mask),
    ("missing bbox", p.without("annotations", "bbox")),
    ("wrong bbox", p.annotation(bbox=[1, 2, 3])),
    ("box without area", p.flat_box),
    ("box without area", p.annotation(bbox=[5, 5, -10, 10])),
    ("box outside of the image", p.box_beyond),
    ("box against the mask", p.everybody(p.box(xyxy))),
    ("box against the mask", p.everybody(p.box(centre))),
    ("box against the mask", p.everybody(p.box(lambda b, s: b / np.tile(s, 2)))),
    ("box against the mask", p.annotation(bbox=[1, 1, 5, 5])),
    ("box of the keypoints", p.everybody(p.keypoint_box)),
    ("box counted from 1", p.everybody(one_based)),
    ("missing area", p.without("annotations", "area")),
    ("wrong area", p.annotation(area=0)),
    ("area against the mask", p.everybody(area_of_box)),
    ("area against the mask", p.annotation(area=3.5)),
    ("wrong visibility", p.number("keypoints", 20, 0.83)),
    ("keypoint outside of the image", p.keypoint(7, 999, 20, 2)),
    ("labelled keypoint at (0, 0)", p.keypoint(7, 0, 0, 2)),
    ("num_keypoints", p.annotation(num_keypoints=3)),
    ("num_keypoints", p.without("annotations", "num_keypoints")),
    ("keypoints against the mask", p.everybody(p.points(swapped))),
    ("keypoints against the mask", p.everybody(p.points(fractions))),
    ("keypoints against the mask", p.swap_keypoints),
    ("missing scribble", p.without("annotations", "scribble")),
    ("missing scribble", p.annotation(scribble=[])),
    ("wrong scribble", p.annotation(scribble=[5] * 118)),
    ("scribble outside of the mask", scribble_off),
    ("missing caption", p.image(caption=" \t", captions=["the person on the left"])),
    ("wrong caption", p.image(caption=["the person on the left"])),
    ("wrong captions", p.image(captions=["the person on the left", 7])),
    ("wrongly decoded text", p.image(caption="the person in the cafÃ©")),
    ("long caption", p.image(captions=["word " * 300])),
    ("lost letters", p.image(captions=["the person in the caf\ufffd"])),
    ("person annotated in two ways", p.other_annotation),
]
"""Faults whose right value is known: nobody is lost."""

LEFT_OUT: list[tuple[str, p.Plant]] = [
    ("repeated image id", copied_image_entry),
    ("repeated image id", other_image_same_id),
    ("several annotations", second_copy),
    ("several annotations", second_person),
    ("crowd", crowd),
    ("annotation without image", one_image_less),
    ("image without annotation", one_person_less),
    ("person without keypoints", unlabelled),
    (
        "not a person",
        p.two(
            p.categories({"id": 1, "name": "person"}, {"id": 2, "name": "dog"}),
            p.annotation(category_id=2),
        ),
    ),
    (
        "missing category_id",
        p.two(
            p.categories({"id": 1, "name": "person"}, {"id": 2, "name": "dog"}),
            p.without("annotations", "category_id"),
        ),
    ),
    ("missing file_name", p.without("images", "file_name")),
    ("wrong file_name", p.image(file_name=7)),
    ("unsafe path", p.image(file_name="/etc/passwd")),
    ("missing image", p.image_file(Path.unlink)),
    ("unreadable image", p.image_file(p.cut)),
    ("unreadable image", p.image_file(lambda path: path.write_bytes(b"") and None)),
    ("image size", p.other_size(3)),
    ("missing segmentation", p.without("annotations", "segmentation")),
    ("missing segmentation", p.annotation(segmentation=[])),
    ("wrong segmentation", p.annotation(segmentation="mask.png")),
    ("polygon without three corners", p.annotation(segmentation=[[1, 2, 3, 4]])),
    ("empty mask", p.annotation(segmentation=[[-5, -5, -5, -9, -9, -9]])),
    ("degenerate mask", p.thin_mask),
    ("mask of another size", p.annotation(segmentation={"size": [3, 3], "counts": [2, 7]})),
    ("keypoints against the mask", p.points_of(2, lambda k, s, b: k / 3)),
    ("missing keypoints", p.without("annotations", "keypoints")),
    ("wrong keypoints", p.annotation(keypoints=[1, 2, 2])),
    ("missing caption", p.without("images", "caption")),
    ("missing caption", p.image(caption="  ")),
    ("wrong caption", p.image(caption=7)),
    ("long caption", p.image(caption="word " * 300)),
    ("lost letters", p.image(caption="the person in the caf\ufffd")),
    ("caption of several people", caption_twice),
    ("repeated person", repeated_row),
    ("validation image in training", p.leak(by_name=True)),
    ("validation image in training", p.leak(by_name=False)),
]
"""Faults whose right value nobody knows: the people concerned are left out."""

NAMES = [f"{number} {kind}" for number, (kind, _) in enumerate([*MENDED, *LEFT_OUT])]


def test_nothing_is_wrong_with_clean_folders(
    clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(clean, capsys) == {}
    assert check(clean) == 0
    assert "6 people\n9 images; nothing is wrong\n" in capsys.readouterr().out


def test_nothing_is_wrong_with_real_people(
    refhuman_mini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(refhuman_mini, capsys) == {}


@pytest.mark.parametrize(("kind", "change"), [*MENDED, *LEFT_OUT], ids=NAMES)
def test_a_planted_fault_is_found_alone_and_mended(
    kind: str, change: p.Plant, clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    p.plant(clean, root, change)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert check(root, "--fix", str(out), "--json", str(tmp_path / "found.json")) == 1
    assert list(json.loads((tmp_path / "found.json").read_text())["problems"]) == [kind]
    log = [json.loads(line) for line in (out / "changes.jsonl").read_text().splitlines()]
    assert log
    assert kind in {change["kind"] for change in log}
    assert found(out, capsys) == {}
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    _require_usable(out)
    lost = PEOPLE - len(json.loads((out / p.TRAIN).read_text())["annotations"])
    dropped = {change["kind"] for change in log if change["dropped"]}
    if (kind, change) in MENDED:
        assert lost <= 0
        assert not dropped
    else:
        assert dropped == {kind}


def _require_usable(root: Path) -> None:
    """pycocotools and training read the file, without a warning of a contradiction."""
    for name in (p.TRAIN, p.VAL):
        COCO(str(root / name))
        people = load_annotations(root / name).instances
        assert people
        assert not verify_images(people, root / "images")


def test_mended_values_are_the_planted_ones(clean: Path, tmp_path: Path) -> None:
    """Keypoints, boxes and areas come back as they were, to a rounding or the mask's outline."""
    truth = json.loads((clean / p.TRAIN).read_text())["annotations"]
    for number, change in enumerate(
        [
            p.everybody(p.points(swapped)),
            p.everybody(p.points(fractions)),
            p.swap_keypoints,
            p.alphabetical(named=False),
            p.everybody(p.box(xyxy)),
            p.everybody(p.keypoint_box),
            p.exchanged_size,
        ]
    ):
        root, out = tmp_path / f"root{number}", tmp_path / f"out{number}"
        p.plant(clean, root, change)
        check(root, "--fix", str(out))
        mended = json.loads((out / p.TRAIN).read_text())["annotations"]
        for right, now in zip(truth, mended, strict=True):
            np.testing.assert_allclose(now["keypoints"], right["keypoints"], atol=0.02)
            np.testing.assert_allclose(now["bbox"], right["bbox"], atol=2.1)
            np.testing.assert_allclose(now["area"], right["area"])


def test_files_that_cannot_be_read_end_with_2(clean: Path, tmp_path: Path) -> None:
    p.plant(clean, tmp_path / "cut", p.gzipped_cut)
    assert check(tmp_path / "cut", "--fix", str(tmp_path / "out")) == 2
    assert not (tmp_path / "out" / p.TRAIN).exists()
    assert check(tmp_path / "out") == 0
    assert check(tmp_path / "nothing") == 2
    (tmp_path / "empty").mkdir()
    assert check(tmp_path / "empty") == 2


def test_keypoints_of_no_known_set_cannot_be_mended(clean: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    p.plant(clean, root, p.categories({"id": 1, "name": "person", "keypoints": ["tail", "nose"]}))
    assert check(root, "--fix", str(tmp_path / "out")) == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*.json")) == [p.VAL]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_encodings_that_training_reads_are_no_problem(
    suffix: str, clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import gzip

    root = tmp_path / "root"
    shutil.copytree(clean, root)
    data = (root / p.TRAIN).read_text().encode("utf-16" if not suffix else "utf-8")
    (root / p.TRAIN).unlink()
    (root / f"{p.TRAIN}{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    assert found(root, capsys) == {}


def test_links_may_lead_into_named_folders(clean: Path, tmp_path: Path) -> None:
    p.plant(clean, tmp_path / "root", p.link_out)
    assert check(tmp_path / "root") == 1
    assert check(tmp_path / "root", "--linked-folder", str(tmp_path)) == 0


def test_people_without_text_are_no_problem(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `uniphd-data from-coco` writes them: they serve spatial prompts."""

    def silence(entry: p.Content, person: p.Content) -> None:
        del entry["caption"]
        entry["captions"] = []

    p.plant(clean, tmp_path / "root", p.everybody(silence))
    assert found(tmp_path / "root", capsys) == {}


def test_a_folder_is_not_written_to(clean: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="which is not written to"):
        main(["check", str(clean), "--fix", str(clean / "mended")])
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="is not empty"):
        main(["check", str(clean), "--fix", str(tmp_path)])


def test_every_kind_is_planted() -> None:
    planted = {kind for kind, _ in [*MENDED, *LEFT_OUT]}
    elsewhere = {"unreadable file", "COCO form", "other keypoints", "zeroed track"}
    unreachable = set(KINDS) - planted - elsewhere
    assert unreachable == {
        "no keypoints",
        "scribbles against the mask",
        "box and keypoints against the mask",
        "height and width exchanged",
    }


def test_the_documentation_lists_every_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
    rows = [f"| {k.name} | {k.meaning} | {k.training} | {k.mended} |" for k in KINDS.values()]
    assert page.split("|---|---|---|---|\n")[1].splitlines() == rows
