"""Faults planted into a clean folder, each with the kinds that `uniphd-data check` has to find."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

TRAIN, VAL = "RefHuman_train.json", "RefHuman_val.json"
Content: TypeAlias = dict[str, Any]
Plant: TypeAlias = Callable[["Folder"], None]


@dataclass
class Folder:
    """A copy of the clean folder, and its training file."""

    root: Path
    content: Content

    def image(self, place: int) -> Content:
        """An entry of `images`."""
        entry: Content = self.content["images"][place]
        return entry

    def annotation(self, place: int) -> Content:
        """An entry of `annotations`."""
        entry: Content = self.content["annotations"][place]
        return entry

    def path(self, place: int) -> Path:
        """The image file of an entry."""
        path: Path = self.root / "images" / self.image(place)["file_name"]
        return path

    def people_of(self, place: int) -> list[int]:
        """All who are on the image of someone."""
        name = self.image(place)["file_name"]
        return [p for p, e in enumerate(self.content["images"]) if e["file_name"] == name]


def plant(folder: Path, root: Path, change: Plant) -> None:
    """Copy a clean folder to `root` and plant a fault."""
    shutil.copytree(folder, root)
    file = root / TRAIN
    planted = Folder(root, json.loads(file.read_text()))
    change(planted)
    if file.exists() and planted.content:
        file.write_text(json.dumps(planted.content))


def image(**values: Any) -> Plant:
    """Set fields of one entry of `images`."""
    return lambda folder: folder.image(2).update(values)


def annotation(**values: Any) -> Plant:
    """Set fields of one annotation."""
    return lambda folder: folder.annotation(2).update(values)


def without(name: str, field: str) -> Plant:
    """Take a field from one entry."""

    def change(folder: Folder) -> None:
        del folder.content[name][2][field]

    return change


def number(field: str, place: int, value: Any) -> Plant:
    """Set one number of one annotation's list."""

    def change(folder: Folder) -> None:
        folder.annotation(2)[field][place] = value

    return change


def everybody(change: Callable[[Content, Content], None]) -> Plant:
    """Change all people, given their two entries."""

    def plant_all(folder: Folder) -> None:
        for entry, person in zip(
            folder.content["images"], folder.content["annotations"], strict=True
        ):
            change(entry, person)

    return plant_all


def keypoint(place: int, *values: float) -> Plant:
    """Set one labelled keypoint of a person, and count it."""

    def change(folder: Folder) -> None:
        person = folder.annotation(2)
        person["keypoints"][3 * place : 3 * place + 3] = list(values)
        person["num_keypoints"] = sum(v > 0 for v in person["keypoints"][2::3])

    return change


def points(form: Callable[[Any, Any, Any], Any]) -> Callable[[Content, Content], None]:
    """Change x, y of keypoints, given them, (width, height) and the box."""

    def change(entry: Content, person: Content) -> None:
        rows = np.array(person["keypoints"], dtype=float).reshape(-1, 3)
        size = np.array([entry["width"], entry["height"]], dtype=float)
        rows[:, :2] = form(rows[:, :2], size, np.array(person["bbox"])) * (rows[:, 2:] > 0)
        person["keypoints"] = rows.round(5).ravel().tolist()

    return change


def points_of(place: int, form: Callable[[Any, Any, Any], Any]) -> Plant:
    """Change x, y of one person's keypoints."""
    return lambda folder: points(form)(folder.image(place), folder.annotation(place))


def box(form: Callable[[Any, Any], Any]) -> Callable[[Content, Content], None]:
    """Change the box, given it and (width, height)."""

    def change(entry: Content, person: Content) -> None:
        size = np.array([entry["width"], entry["height"]], dtype=float)
        person["bbox"] = np.asarray(form(np.array(person["bbox"]), size)).round(5).tolist()

    return change


def runs(person: Content, entry: Content) -> Content:
    """The mask as compressed run lengths."""
    height, width = entry["height"], entry["width"]
    shape = person["segmentation"]
    if isinstance(shape, list):
        shape = coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
    elif isinstance(shape["counts"], list):
        shape = coco_mask.frPyObjects(shape, height, width)
    counts = shape["counts"]
    return {
        "size": [height, width],
        "counts": counts.decode() if isinstance(counts, bytes) else counts,
    }


def a_polygon(place: int = 3) -> Callable[[Folder], list[Any]]:
    """The polygons of someone who has some."""

    def of(folder: Folder) -> list[Any]:
        shape = folder.annotation(place)["segmentation"]
        assert isinstance(shape, list)
        return shape

    return of


def copy_row(folder: Folder, **values: Any) -> tuple[Content, Content]:
    """Put a second row of a person at the end, with new ids."""
    entry = {**folder.image(2), "id": 900, **values}
    person = {**json.loads(json.dumps(folder.annotation(2))), "id": 900, "image_id": 900}
    folder.content["images"].append(entry)
    folder.content["annotations"].append(person)
    return entry, person


def rename_file(new: Callable[[str], str], name: Callable[[str], str] = str) -> Plant:
    """Rename an image file; the entries have `name` of what they had."""

    def change(folder: Folder) -> None:
        path, people = folder.path(2), folder.people_of(2)
        target = path.parent / new(path.name)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        for place in people:
            folder.image(place)["file_name"] = name(folder.image(place)["file_name"])

    return change


def set_name(name: Callable[[str], str]) -> Plant:
    """Write another name of one image into its entries."""

    def change(folder: Folder) -> None:
        for place in folder.people_of(2):
            folder.image(place)["file_name"] = name(folder.image(place)["file_name"])

    return change


def image_file(change: Callable[[Path], None]) -> Plant:
    """Change an image file."""
    return lambda folder: change(folder.path(2))


def cut(path: Path) -> None:
    """Cut a file off."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_orientation(orientation: int) -> Callable[[Path], None]:
    """Store an image with an EXIF orientation, for which it is turned."""

    def change(path: Path) -> None:
        with Image.open(path) as opened:
            opened.load()
        exif = opened.getexif()
        exif[0x0112] = orientation
        turned = opened.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else opened
        turned.save(path, exif=exif)

    return change


def swap_keypoints(folder: Folder) -> None:
    """Exchange the keypoints of the two people of an image."""
    one, two = (folder.annotation(place) for place in folder.people_of(2))
    for key in ("keypoints", "num_keypoints"):
        one[key], two[key] = two[key], one[key]


def encode(encoding: str) -> Plant:
    """Write the file in another encoding, with a letter beyond ASCII."""

    def change(folder: Folder) -> None:
        folder.image(2)["caption"] = "the person in the café"
        text = json.dumps(folder.content, ensure_ascii=False)
        (folder.root / TRAIN).write_bytes(text.encode(encoding))
        folder.content = {}

    return change


def alphabetical(named: bool) -> Plant:
    """Put the keypoints into alphabetical order, which the category says or not."""
    from uniphd.keypoints import COCO17

    order = sorted(range(17), key=lambda place: COCO17.names[place])

    def change(folder: Folder) -> None:
        for person in folder.content["annotations"]:
            rows = np.array(person["keypoints"]).reshape(-1, 3)[order]
            person["keypoints"] = rows.ravel().tolist()
        if named:
            folder.content["categories"][0]["keypoints"] = [COCO17.names[k] for k in order]

    return change


def categories(*entries: Content, people: int = 1) -> Plant:
    """Set the categories, and the id of everybody."""

    def change(folder: Folder) -> None:
        folder.content["categories"] = list(entries)
        for person in folder.content["annotations"]:
            person["category_id"] = people

    return change


def append(name: str, make: Callable[[Folder], Content]) -> Plant:
    """Put an entry to the end of a list."""
    return lambda folder: folder.content[name].append(make(folder))


def two(first: Plant, second: Plant) -> Plant:
    """Two changes."""

    def change(folder: Folder) -> None:
        first(folder)
        second(folder)

    return change


def leak(by_name: bool) -> Plant:
    """Put a validation image into the training file, by its name or as a copy."""

    def change(folder: Folder) -> None:
        val = json.loads((folder.root / VAL).read_text())
        entry, person = val["images"][0], val["annotations"][0]
        if not by_name:
            source = folder.root / "images" / entry["file_name"]
            shutil.copy(source, source.with_name("copy.png"))
            entry = {**entry, "file_name": "copy.png"}
        folder.content["images"].append({**entry, "id": 950})
        folder.content["annotations"].append({**person, "id": 950, "image_id": 950})

    return change


def link_out(folder: Folder) -> None:
    """Move an image out of the folder and link it there."""
    path, target = folder.path(2), folder.root.parent / "elsewhere.png"
    path.rename(target)
    path.symlink_to(target)


def under_two_names(folder: Folder) -> None:
    """Name one person's image by a copy of it."""
    path = folder.path(2)
    shutil.copy(path, path.with_name("a_copy.png"))
    folder.image(folder.people_of(2)[1])["file_name"] = "a_copy.png"


def other_annotation(folder: Folder) -> None:
    """Describe a person twice, with keypoints and caption that differ."""
    _, person = copy_row(folder, caption="somebody in the image")
    labelled = [k for k in range(17) if person["keypoints"][3 * k + 2] == 2]
    person["keypoints"][3 * labelled[0] + 2] = 1


def other_size(place: int) -> Plant:
    """Say another size than the image has."""

    def change(folder: Folder) -> None:
        folder.image(place).update(width=folder.image(place)["width"] + 9)

    return change


def exchanged_size(folder: Folder) -> None:
    """Exchange height and width of an entry."""
    entry = folder.image(2)
    entry["height"], entry["width"] = entry["width"], entry["height"]


def exchanged_mask(folder: Folder) -> None:
    """Exchange height and width of a mask."""
    person = folder.annotation(2)
    person["segmentation"] = runs(person, folder.image(2))
    person["segmentation"]["size"].reverse()


def box_beyond(folder: Folder) -> None:
    """Let a box leave the image, on which it is right."""
    entry, (x, y, w, h) = folder.image(2), folder.annotation(2)["bbox"]
    folder.annotation(2)["bbox"] = [x, y, entry["width"] + 2.5 - x if x > w else w, h]
    if x <= w:
        folder.annotation(2)["bbox"] = [-3.0, y, w + x + 3, h]


def keypoint_box(entry: Content, person: Content) -> None:
    """The smallest box around the keypoints, and further keypoints unlabelled."""
    rows = np.array(person["keypoints"], dtype=float).reshape(-1, 3)
    shown = rows[rows[:, 2] > 0, :2]
    low, high = shown.min(0), shown.max(0)
    person["bbox"] = [*low.tolist(), *(high - low).tolist()]


def flat_box(folder: Folder) -> None:
    """A box whose height is 0."""
    folder.annotation(2)["bbox"][3] = 0


def gzipped_cut(folder: Folder) -> None:
    """A gzip file that is cut off."""
    data = gzip.compress(json.dumps(folder.content).encode())
    (folder.root / TRAIN).write_bytes(data[: len(data) // 2])
    folder.content = {}


def thin_mask(folder: Folder) -> None:
    """A mask of one column, and box and area that fit."""
    entry, person = folder.image(2), folder.annotation(2)
    mask = np.zeros((entry["height"], entry["width"]), dtype=np.uint8, order="F")
    x, y, w, h = (int(value) for value in person["bbox"])
    mask[y : y + h, x + w // 2] = 1
    encoded = coco_mask.encode(mask)
    person["segmentation"] = {
        "size": [entry["height"], entry["width"]],
        "counts": encoded["counts"].decode(),
    }
    person["bbox"], person["area"] = [x + w // 2, y, 1, h], float(mask.sum())
    person["scribble"] = [x + w // 2, y + h // 2] * 60
    rows = np.array(person["keypoints"]).reshape(-1, 3)
    rows[rows[:, 2] > 0, 0] = x + w // 2
    person["keypoints"] = rows.ravel().tolist()
