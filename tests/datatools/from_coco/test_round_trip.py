"""The mini set, put back into COCO's form and converted, has the same people again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tests.coco_form import write_coco_form
from uniphd.cli.data import main
from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.data.images import verify_images


@pytest.mark.parametrize("name", ["train", "val"])
def test_the_people_are_the_same(name: str, refhuman_mini: Path, tmp_path: Path) -> None:
    source = refhuman_mini / f"RefHuman_{name}.json"
    write_coco_form(source, tmp_path / "coco.json")
    images = str(refhuman_mini / "images")
    arguments = [str(tmp_path / "coco.json"), images, str(tmp_path / "out"), "--all", "--template"]
    main(["from-coco", *arguments, "--name", "made.json"])
    made = load_annotations(tmp_path / "out" / "made.json", scribble_prompts=["scribble"])
    coco_ids = {
        entry["image_id"]: entry["coco_ann_id"]
        for entry in json.loads(source.read_text())["annotations"]
    }
    before = {coco_ids[person.image_id]: person for person in load_annotations(source).instances}
    after = {person.annotation_id: person for person in made.instances}
    assert before.keys() == after.keys()
    assert not made.skipped
    for annotation_id, person in before.items():
        equal(person, after[annotation_id])
    folder = tmp_path / "out" / "images"
    assert not verify_images(made.instances, folder, 1, (refhuman_mini / "images",))


def equal(before: ReferredPerson, after: ReferredPerson) -> None:
    assert after.file_name == f"images/{before.file_name}"
    assert (after.size, after.bbox, after.area) == (before.size, before.bbox, before.area)
    assert after.counts == before.counts
    assert np.array_equal(after.keypoints, before.keypoints)
    assert after.scribbles.shape == (5, 12, 2)
    x, y = after.scribbles[..., 0], after.scribbles[..., 1]
    assert before.mask()[y, x].all()


def test_pycocotools_reads_it(refhuman_mini: Path, tmp_path: Path) -> None:
    write_coco_form(refhuman_mini / "RefHuman_train.json", tmp_path / "coco.json")
    arguments = [str(tmp_path / "coco.json"), str(refhuman_mini / "images"), str(tmp_path / "out")]
    main(["from-coco", *arguments, "--like", "refhuman-val", "--copy"])
    coco = COCO(str(tmp_path / "out" / "RefHuman_val.json"))
    assert len(coco.imgs) == len(coco.anns) > 40
    for annotation in coco.anns.values():
        assert coco_mask.area(coco.annToRLE(annotation)) > 0
        entry = coco.imgs[annotation["image_id"]]
        assert (tmp_path / "out" / "images" / entry["file_name"]).is_file()
