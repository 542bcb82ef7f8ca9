"""The mini set in COCO's form, with what COCO has beside it: a crowd, people without keypoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.coco_form import write_coco_form


def write_mini(refhuman_mini: Path, folder: Path) -> dict[str, Any]:
    """Write `coco.json`: one more category, a crowd, people without keypoints, mask or box.

    Returns:
        What was written.
    """
    content = write_coco_form(refhuman_mini / "RefHuman_train.json", folder / "coco.json")
    image = content["images"][0]
    first = content["annotations"][0]
    height, width = image["height"], image["width"]
    common = {"image_id": image["id"], "category_id": 1, "keypoints": [0] * 51, "num_keypoints": 0}
    counts = [0, height * 20, height * (width - 20)]
    crowd = {
        **common,
        "id": 900_000_000_001,
        "iscrowd": 1,
        "area": float(height * 20),
        "bbox": [0, 0, 20, height],
        "segmentation": {"size": [height, width], "counts": counts},
    }
    rectangle = {"iscrowd": 0, "area": 800.0, "bbox": [5, 5, 20, 40]}
    corners = [5, 5, 25, 5, 25, 45, 5, 45]
    bare = {**common, **rectangle, "id": 76, "segmentation": [corners]}
    sliver = [10.1, 10.1, 10.2, 10.1, 10.2, 10.2]
    empty = {**common, **rectangle, "id": 77, "segmentation": [sliver]}
    empty |= {"area": 0.005, "bbox": [10.1, 10.1, 0.1, 0.1]}
    flat = {**common, **rectangle, "id": 78, "segmentation": [corners], "bbox": [5, 5, 0, 40]}
    flat |= {"keypoints": first["keypoints"], "num_keypoints": first["num_keypoints"]}
    dog = {**bare, "id": 79, "category_id": 18}
    content["annotations"] += [crowd, bare, empty, flat, dog]
    content["categories"] = [*content["categories"], {"id": 18, "name": "dog"}]
    (folder / "coco.json").write_text(json.dumps(content))
    return content
