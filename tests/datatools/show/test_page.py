"""The page of `uniphd-data show`, against the annotation files and the evaluator."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from tests.datatools.show.pages import Page
from tests.datatools.show.test_outline import even_odd, iou
from tests.refhuman_folder import decode, write_refhuman
from uniphd.cli.data import main
from uniphd.data.annotations import load_annotations
from uniphd.metrics.evaluator import RefHumanEvaluator
from uniphd.metrics.report import write_report
from uniphd.structures import Instances

HOSTILE = "</script><img src=x onerror=\"alert(1)\"><!--<script>\u2028 & 'x' \ud83d"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight people to train on and four to validate on; may be changed."""
    return write_refhuman(tmp_path / "set", people=8, seed=1)


def change(folder: Path, name: str = "RefHuman_val.json") -> Any:
    return json.loads((folder / name).read_text())


def store(folder: Path, content: Any, name: str = "RefHuman_val.json") -> None:
    (folder / name).write_text(json.dumps(content))


def page_of(folder: Path, *options: str) -> Page:
    path = folder.parent / "page.html"
    main(["show", str(folder), "-o", str(path), *options])
    return Page(path)


def test_everybody_is_shown_as_annotated(folder: Path, capsys) -> None:
    page = page_of(folder)
    assert "12 people in 6 images" in capsys.readouterr().out
    assert [file["name"] for file in page.index["files"]] == [
        "RefHuman_train.json",
        "RefHuman_val.json",
    ]
    for person in page.index["people"]:
        name = page.index["files"][person["file"]]["name"]
        coco = COCO(folder / name)
        image = coco.imgs[int(person["id"])]
        annotation = coco.anns[int(person["annotation"])]
        shapes, size = page.shapes(person), (image["height"], image["width"])
        assert page.block(person)["size"] == [image["width"], image["height"]]
        assert person["captions"] == [image["caption"]]
        assert person["name"] == image["file_name"]
        assert person["area"] == annotation["area"]
        assert person["keypoints"] == annotation["num_keypoints"]
        assert (person["people"], person["problems"]) == (2, [])
        np.testing.assert_allclose(shapes["box"], annotation["bbox"], atol=0.06)
        assert shapes["pose"] == annotation["keypoints"]
        assert [*chain(*shapes["strokes"])] == annotation["scribble"]
        polygons = [np.array(polygon).reshape(-1, 2) for polygon in shapes["mask"]]
        assert iou(even_odd(polygons, size), decode(coco.annToRLE(annotation)) == 1) > 0.9


def test_images_are_small_copies_in_raw_order(folder: Path) -> None:
    page = page_of(folder, "--size", "64", "--split", "val")
    for person in page.index["people"]:
        url = page.block(person)["thumbnail"]
        copy = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/webp;base64,"))))
        original = Image.open(folder / "images" / person["name"]).convert("RGB")
        assert max(copy.size) == 64
        difference = np.abs(np.asarray(copy, float) - np.asarray(original.resize(copy.size), float))
        assert difference.mean() < 12


def test_texts_of_strangers_stay_texts(folder: Path) -> None:
    content = change(folder)
    content["images"][0]["caption"] = HOSTILE
    (folder / "images" / "<b onclick=x>.png").write_bytes(
        (folder / "images" / content["images"][1]["file_name"]).read_bytes()
    )
    content["images"][1]["file_name"] = "<b onclick=x>.png"
    store(folder, content)
    hostile = folder.parent / "<u>set&"
    folder.rename(hostile)
    page = page_of(hostile, "--split", "val")
    assert page.index["people"][0]["captions"] == [HOSTILE]
    assert page.index["people"][1]["name"] == "<b onclick=x>.png"
    assert page.block(page.index["people"][1])["thumbnail"]
    assert page.title.strip() == page.index["title"] == "<u>set&"
    tags = Counter(tag for tag, _ in page.tags)
    assert not {"img", "b", "u", "iframe", "link", "object"} & set(tags)
    assert len(page.scripts) == 1
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_the_policy_runs_the_pages_own_script_and_loads_nothing(folder: Path) -> None:
    page = page_of(folder)
    (policy,) = [
        str(attributes["content"])
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    for directive, text in (("script-src", page.scripts[0]), ("style-src", page.styles[0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert set(re.findall(r"https?://[^\"' ]+", page.text)) == {"http://www.w3.org/2000/svg"}
    assert not [a for _, attributes in page.tags for a in attributes if a in ("src", "href")]


def test_people_with_problems_are_shown_with_them(folder: Path) -> None:
    content = change(folder, "RefHuman_train.json")
    annotations = content["annotations"]
    annotations[0]["bbox"] = [5, 5, -3, 0]
    annotations[1]["segmentation"] = [[1, 2, 3]]
    annotations[2]["keypoints"] = "none"
    content["images"][3]["caption"] = None
    store(folder, content, "RefHuman_train.json")
    page = page_of(folder)
    kinds = page.index["problems"]
    train = [person for person in page.index["people"] if person["file"] == 0][:4]
    found = [[kinds[index] for index, _ in person["problems"]] for person in train]
    assert found == [
        ["box without area"],
        ["polygon without three corners"],
        ["wrong keypoints"],
        ["wrong caption"],
    ]
    assert "[5, 5, -3, 0]" in train[0]["problems"][0][1]
    assert page.shapes(train[0])["box"] == [5, 5, -3, 0]
    assert page.shapes(train[1])["mask"] == []
    assert page.shapes(train[2])["pose"] == []
    assert train[3]["captions"] == []
    assert not any(person["problems"] for person in page.index["people"] if person["file"] == 1)


def test_contradictions_are_problems(folder: Path) -> None:
    content = change(folder, "RefHuman_train.json")
    boxes = content["annotations"][0]["bbox"], content["annotations"][1]["bbox"]
    content["annotations"][0]["bbox"] = boxes[1]
    store(folder, content, "RefHuman_train.json")
    page = page_of(folder, "--split", "train")
    wrong = [person for person in page.index["people"] if person["problems"]]
    assert [person["id"] for person in wrong] == ["1"]
    assert page.index["problems"][wrong[0]["problems"][0][0]] == "box against the mask"


def test_a_person_who_is_described_twice_is_one(folder: Path) -> None:
    content = change(folder)
    content["images"].append(content["images"][0] | {"id": 900, "caption": "again"})
    content["annotations"].append(content["annotations"][0] | {"id": 900, "image_id": 900})
    store(folder, content)
    page = page_of(folder, "--split", "val")
    assert [person["people"] for person in page.index["people"]] == [2] * 5
    assert len({person["image"] for person in page.index["people"]}) == 2


def test_missing_and_rotated_images(folder: Path) -> None:
    names = sorted({entry["file_name"] for entry in change(folder)["images"]})
    (folder / "images" / names[0]).unlink()
    rotated = Image.open(folder / "images" / names[1])
    exif = Image.Exif()
    exif[0x0112] = 3
    rotated.save(folder / "images" / names[1], exif=exif)
    page = page_of(folder, "--split", "val")
    blocks = {person["name"]: page.block(person) for person in page.index["people"]}
    assert blocks[names[0]]["thumbnail"] is None
    assert "does not exist" in blocks[names[0]]["error"]
    problems = {
        person["name"]: [page.index["problems"][index] for index, _ in person["problems"]]
        for person in page.index["people"]
    }
    assert problems == {names[0]: ["missing image"], names[1]: ["EXIF orientation"]}
    assert blocks[names[1]]["upright"] is False


def test_coco_form_is_shown(folder: Path) -> None:
    content = change(folder)
    image = content["images"][0] | {"id": 7}
    content["images"] = [{k: v for k, v in image.items() if k != "caption"}]
    content["annotations"] = [a | {"image_id": 7} for a in content["annotations"][:2]]
    for annotation in content["annotations"]:
        del annotation["scribble"]
    store(folder, content)
    page = page_of(folder, "--split", "val")
    assert [(p["id"], p["people"], p["captions"]) for p in page.index["people"]] == [
        ("7", 2, []),
        ("7", 2, []),
    ]


def test_limit_keeps_problems_and_spreads_the_others(folder: Path, capsys) -> None:
    content = change(folder, "RefHuman_train.json")
    content["annotations"][3]["bbox"] = [5, 5, -3, 0]
    store(folder, content, "RefHuman_train.json")
    page = page_of(folder, "--limit", "4")
    assert len(page.index["people"]) == 4
    assert [bool(person["problems"]) for person in page.index["people"]].count(True) == 1
    assert {person["file"] for person in page.index["people"]} == {0, 1}
    assert page.index["notes"][-1].startswith("4 of 12 people are shown: 1 of the 1 with a problem")
    assert "4 of 12 people" in capsys.readouterr().out


def evaluated(folder: Path, results: Path, masks: bool = True) -> dict[str, float]:
    """Write what `uniphd-eval` writes for detections that are somewhat off; its metrics."""
    people = load_annotations(folder / "RefHuman_val.json").instances
    evaluator = RefHumanEvaluator(people)
    for number, person in enumerate(people):
        shown = people[number - 1] if number == 3 else person
        shift = 9 * number
        moved = torch.from_numpy(np.roll(shown.mask(), shift, axis=1).astype(bool))
        x, y, width, height = shown.bbox
        best_and_worse = Instances(
            scores=torch.tensor([0.3, 0.9]),
            boxes=torch.tensor([[0, 0, 1, 1], [x + shift, y, x + shift + width, y + height]]),
            keypoints=torch.stack(
                [torch.zeros(17, 2), torch.from_numpy(shown.keypoints[:, :2]) + shift]
            ),
            visibility=torch.full((2, 17), 0.9),
            masks=torch.stack([torch.zeros_like(moved), moved]) if masks else None,
            queries=torch.arange(2),
        )
        evaluator.update([person.image_id], [best_and_worse])
    metrics = evaluator.compute()
    write_report(results, {"text": metrics}, {"text": evaluator.coco_results()})
    return metrics


def test_predictions_are_judged_as_the_evaluation_does(folder: Path) -> None:
    results = folder.parent / "run"
    metrics = evaluated(folder, results)
    page = page_of(folder, "--results", str(results))
    assert page.index["kinds"] == ["text"]
    assert [file["name"] for file in page.index["files"]] == ["RefHuman_val.json"]
    scores = [person["results"]["text"] for person in page.index["people"]]
    assert np.mean([s["iou"] for s in scores]) == pytest.approx(metrics["mIoU"], abs=1e-4)
    assert np.mean([s["oks"] for s in scores]) == pytest.approx(metrics["mean_OKS"], abs=1e-4)
    assert np.mean([s["outcome"] < 2 for s in scores]) == pytest.approx(metrics["pick"])
    assert np.mean([s["outcome"] == 0 for s in scores]) == pytest.approx(metrics["referring_acc"])
    assert metrics["referring_acc"] < metrics["pick"] < 1
    entries = json.loads((results / "text_segm.json").read_text())
    best = {entry["image_id"]: entry for entry in entries if entry["score"] > 0.5}
    for person in page.index["people"]:
        drawn = page.shapes(person)["results"]["text"]
        polygons = [np.array(polygon).reshape(-1, 2) for polygon in drawn["mask"]]
        runs = best[int(person["id"])]["segmentation"]
        mask = decode({"size": runs["size"], "counts": runs["counts"].encode()}) == 1
        assert iou(even_odd(polygons, mask.shape), mask) > 0.9


def test_without_masks_nothing_is_said_of_them(folder: Path) -> None:
    results = folder.parent / "run"
    metrics = evaluated(folder, results, masks=False)
    page = page_of(folder, "--results", str(results))
    scores = [person["results"]["text"] for person in page.index["people"]]
    assert {(s["iou"], s["outcome"]) for s in scores} == {(None, None)}
    assert np.mean([s["oks"] for s in scores]) == pytest.approx(metrics["mean_OKS"], abs=1e-4)


def test_limit_takes_the_worst_predictions(folder: Path) -> None:
    results = folder.parent / "run"
    evaluated(folder, results)
    everybody = page_of(folder, "--results", str(results)).index["people"]
    few = page_of(folder, "--results", str(results), "--limit", "2").index["people"]
    worst = sorted(everybody, key=lambda person: person["results"]["text"]["quality"])[:2]
    assert {person["id"] for person in few} == {person["id"] for person in worst}


def test_results_of_another_data_set_are_refused(folder: Path, capsys) -> None:
    results = folder.parent / "run"
    evaluated(folder, results)

    def refusal(root: Path) -> str:
        with pytest.raises(SystemExit) as stopped:
            page_of(root, "--results", str(results))
        return str(stopped.value)

    other = write_refhuman(folder.parent / "other" / "set", people=8, seed=2)
    assert "is for the size" in refusal(other)
    content = change(other)
    for entry in content["images"]:
        entry["id"] += 1000
    for entry in content["annotations"]:
        entry["image_id"] += 1000
    store(other, content)
    assert "image ids that none of RefHuman_train.json, RefHuman_val.json has" in refusal(other)
    shutil.rmtree(results)
    results.mkdir()
    assert "has no results" in refusal(folder)


def test_folders_without_people_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no annotation file"):
        main(["show", str(tmp_path), "-o", str(tmp_path / "page.html")])
    with pytest.raises(SystemExit, match="is no folder"):
        main(["show", str(tmp_path / "nothing"), "-o", str(tmp_path / "page.html")])
