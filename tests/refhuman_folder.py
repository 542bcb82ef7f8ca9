"""A small data set in RefHuman's format: drawn stick people on noise."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from uniphd.keypoints import COCO17, KeypointSchema

COLOURS = {"red": (220, 40, 40), "green": (40, 190, 60), "blue": (50, 70, 230)}

# A figure in a box of 8 x 16 units: 17 keypoints in COCO's order and a silhouette around them.
# It faces the viewer, so its left side is on the right of the image.
KEYPOINTS = np.array(
    [
        (4, 2), (4.5, 1.5), (3.5, 1.5), (5, 2), (3, 2), (6, 4), (2, 4), (7, 6.5), (1, 6.5),
        (7, 9), (1, 9), (5.5, 9), (2.5, 9), (5.5, 12), (2.5, 12), (5.5, 15), (2.5, 15),
    ]
)  # fmt: skip
SILHOUETTE = np.array(
    [
        (3, 0), (5, 0), (6, 1), (6, 3), (7.5, 3.5), (8, 9.5), (6.5, 10), (6.5, 16),
        (1.5, 16), (1.5, 10), (0, 9.5), (0.5, 3.5), (2, 3), (2, 1),
    ]
)  # fmt: skip
BONES = [(0, 5), (0, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 13), (13, 15),
         (12, 14), (14, 16)]  # fmt: skip


def write_refhuman(
    root: Path, people: int = 8, seed: int = 0, schema: KeypointSchema = COCO17
) -> Path:
    """Write `RefHuman_train.json`, `RefHuman_val.json` and their images.

    Two people stand in each image, described by colour and side, and each is an image id of its
    own. Segmentations are polygons, compressed and uncompressed run lengths in turn.

    Args:
        root: folder to write to; made where it does not exist.
        people: number of people in the training file; the validation file has half as many, at
            least two.
        seed: of everything drawn.
        schema: which keypoints to annotate.

    Returns:
        `root`.
    """
    random = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True, exist_ok=True)
    write_file(root, "train", people, 1, random, schema)
    write_file(root, "val", max(2, people // 2), 100_001, random, schema)
    return root


def write_file(
    root: Path,
    name: str,
    people: int,
    first_id: int,
    random: np.random.Generator,
    schema: KeypointSchema = COCO17,
) -> None:
    """Write one annotation file and its images."""
    images, annotations = [], []
    for number in range(people):
        if number % 2 == 0:
            image, figures = draw_image(random, schema)
            file_name = f"{name}_{number // 2:03d}.png"
            image.save(root / "images" / file_name)
        figure = figures[number % 2]
        size = {"height": image.height, "width": image.width}
        entry_id = first_id + number
        caption = f"the {figure['colour']} person on the {figure['side']}"
        images.append({"id": entry_id, "file_name": file_name, **size, "caption": caption})
        annotations.append(annotate(figure, entry_id, image.size, number, random))
    content = {"images": images, "annotations": annotations, "categories": [category(schema)]}
    (root / f"RefHuman_{name}.json").write_text(json.dumps(content))


def category(schema: KeypointSchema) -> dict[str, Any]:
    """The category of people; COCO's keypoints go without saying."""
    return {"id": 1} if schema == COCO17 else {"id": 1, "keypoints": list(schema.names)}


def places(schema: KeypointSchema) -> np.ndarray:
    """The keypoints in the figure's units, those that COCO lacks around its middle."""
    coco = dict(zip(COCO17.names, KEYPOINTS.tolist(), strict=True))
    turns = enumerate(schema.names)
    return np.array([coco.get(name, (4 + np.cos(k), 7 + 2 * np.sin(k))) for k, name in turns])


def draw_image(
    random: np.random.Generator, schema: KeypointSchema = COCO17
) -> tuple[Image.Image, list[dict[str, Any]]]:
    """Noise with a figure in the left and one in the right half."""
    width, height = int(random.integers(140, 181)), int(random.integers(100, 141))
    image = Image.fromarray(random.integers(60, 196, (height, width, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    figures = []
    for side, colour in zip(("left", "right"), random.permutation(list(COLOURS)), strict=False):
        unit = random.uniform(0.7, 0.9) * min(height / 16, width / 16)
        start = 0 if side == "left" else width / 2
        corner = np.array(
            [start + random.uniform(0, width / 2 - 8 * unit), random.uniform(0, height - 16 * unit)]
        )
        outline = corner + SILHOUETTE * unit
        joints = corner + places(schema) * unit
        limbs = corner + KEYPOINTS * unit
        draw.polygon([tuple(point) for point in outline], fill=COLOURS[str(colour)])
        for first, second in BONES:
            draw.line([tuple(limbs[first]), tuple(limbs[second])], fill=(255, 255, 255), width=1)
        figures.append({"side": side, "colour": str(colour), "outline": outline, "joints": joints})
    return image, figures


def annotate(
    figure: dict[str, Any],
    entry_id: int,
    size: tuple[int, int],
    number: int,
    random: np.random.Generator,
) -> dict[str, Any]:
    """The annotation of one figure in an image of `size` (width, height)."""
    width, height = size
    outline = figure["outline"].round(2)
    polygons = [outline.flatten().tolist()]
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    mask = decode(runs)
    visibility = random.choice([1, 2, 2, 2], size=len(figure["joints"]))
    visibility[random.integers(len(visibility))] = 0
    joints = np.where(visibility[:, None] > 0, figure["joints"].round(), 0).astype(int)
    low, high = outline.min(0), outline.max(0)
    segmentation = [
        polygons,
        {"size": [height, width], "counts": runs["counts"].decode()},
        {"size": [height, width], "counts": uncompressed(mask)},
    ][number % 3]
    return {
        "id": entry_id,
        "image_id": entry_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [*low.tolist(), *(high - low).round(2).tolist()],
        "area": float(mask.sum()),
        "num_keypoints": int((visibility > 0).sum()),
        "keypoints": np.column_stack([joints, visibility]).flatten().tolist(),
        "segmentation": segmentation,
        "scribble": [int(value) for _ in range(5) for value in stroke(mask, random)],
    }


def stroke(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Twelve points of the mask from top to bottom, x and y in turn, 24 numbers."""
    y, x = np.nonzero(mask)
    chosen = np.sort(random.choice(len(y), size=12, replace=len(y) < 12))
    return np.column_stack([x[chosen], y[chosen]]).flatten()


def decode(runs: dict[str, Any]) -> np.ndarray:
    """pycocotools' mask (h, w), without its warning about numpy 2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco_mask.decode(runs)


def uncompressed(mask: np.ndarray) -> list[int]:
    """Run lengths of 0, 1, 0, ... column by column."""
    pixels = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff([0, *edges, len(pixels)]).tolist()
    return [0, *runs] if pixels[0] else runs
