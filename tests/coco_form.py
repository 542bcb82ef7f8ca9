"""A file in RefHuman's format put back into COCO's: all people of an image under one image id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OF_REFHUMAN = ("caption", "captions", "coco_image_id")


def coco_form(content: Mapping[str, Any]) -> dict[str, Any]:
    """The COCO keypoints file of a RefHuman file.

    Entries of `images` with the same file name become one. Where the file says which image and
    annotation of COCO it was (`coco_image_id`, `coco_ann_id`), these are the ids again; otherwise
    the lowest id of the image's people and the annotation's own. Captions and scribbles are left
    out.

    Args:
        content: of a RefHuman file.

    Raises:
        ValueError: two images or two people would have one id.
    """
    entries = {entry["id"]: entry for entry in content["images"]}
    images: dict[str, dict[str, Any]] = {}
    for entry in sorted(content["images"], key=lambda entry: entry["id"]):
        kept = {key: value for key, value in entry.items() if key not in _OF_REFHUMAN}
        kept["id"] = entry.get("coco_image_id", entry["id"])
        images.setdefault(entry["file_name"], kept)
    annotations = [
        {
            **{
                key: value for key, value in entry.items() if key not in ("scribble", "coco_ann_id")
            },
            "id": entry.get("coco_ann_id", entry["id"]),
            "image_id": images[entries[entry["image_id"]]["file_name"]]["id"],
        }
        for entry in content["annotations"]
    ]
    for rows in (list(images.values()), annotations):
        if len({row["id"] for row in rows}) < len(rows):
            raise ValueError("Two entries have the same id in COCO's form.")
    return {**content, "images": list(images.values()), "annotations": annotations}


def write_coco_form(refhuman: Path, coco: Path) -> dict[str, Any]:
    """Write the COCO keypoints file of the RefHuman file at `refhuman` to `coco`.

    Returns:
        What was written.
    """
    content = coco_form(json.loads(refhuman.read_text()))
    coco.parent.mkdir(parents=True, exist_ok=True)
    coco.write_text(json.dumps(content))
    return content
