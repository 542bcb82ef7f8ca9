"""The mini set in COCO's form is a file that pycocotools reads, with several people per image."""

from __future__ import annotations

import json
from pathlib import Path

from pycocotools.coco import COCO

from tests.coco_form import write_coco_form


def test_the_people_of_an_image_are_together(refhuman_mini: Path, tmp_path: Path) -> None:
    source = json.loads((refhuman_mini / "RefHuman_train.json").read_text())
    write_coco_form(refhuman_mini / "RefHuman_train.json", tmp_path / "person_keypoints.json")
    coco = COCO(str(tmp_path / "person_keypoints.json"))
    assert len(coco.imgs) == len({entry["file_name"] for entry in source["images"]}) == 24
    assert len(coco.anns) == len(source["annotations"]) == 61
    assert max(len(people) for people in coco.imgToAnns.values()) == 7
    for entry in source["annotations"]:
        assert coco.anns[entry["coco_ann_id"]]["keypoints"] == entry["keypoints"]
