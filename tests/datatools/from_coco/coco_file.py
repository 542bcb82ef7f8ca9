"""A small file in COCO's form: boxes as people, whose images are grey."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

WIDTH, HEIGHT = 100, 80


def person(
    annotation_id: int, image_id: int, box: Sequence[float], labelled: int = 17, **fields: Any
) -> dict[str, Any]:
    """A person who fills the box, with so many keypoints in its middle."""
    x, y, width, height = box
    middle = [x + width / 2, y + height / 2, 2]
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": list(box),
        "area": width * height,
        "num_keypoints": labelled,
        "keypoints": middle * labelled + [0, 0, 0] * (17 - labelled),
        "segmentation": [polygon],
        **fields,
    }


def write_coco(
    folder: Path, people: Sequence[Mapping[str, Any]], absent: Sequence[int] = ()
) -> Path:
    """Write `coco.json` and `photos/`, without the images of the ids `absent`.

    Returns:
        The file.
    """
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    ids = sorted({entry["image_id"] for entry in people})
    images = [{"id": i, "file_name": f"{i:03d}.png", "height": HEIGHT, "width": WIDTH} for i in ids]
    for image in images:
        if image["id"] not in absent:
            Image.new("RGB", (WIDTH, HEIGHT), "grey").save(photos / image["file_name"])
    content = {
        "images": images,
        "annotations": list(people),
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def record(annotation_id: int, image_id: int, split: str, *texts: str) -> dict[str, Any]:
    """A record of REFER."""
    sentences = [
        {"tokens": text.lower().split(), "raw": text, "sent_id": n, "sent": text.lower()}
        for n, text in enumerate(texts)
    ]
    return {
        "sent_ids": list(range(len(texts))),
        "file_name": f"COCO_train2014_{image_id:012d}_{annotation_id}.jpg",
        "ann_id": annotation_id,
        "ref_id": annotation_id,
        "image_id": image_id,
        "split": split,
        "sentences": sentences,
        "category_id": 1,
    }
