"""How ids, categories, texts and images are mended; see `mend_fields` for what functions return."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from uniphd.data.categories import parse_categories
from uniphd.data.images import ImageFacts
from uniphd.data.validation import is_id, shown
from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.image_files import ImageFile
from uniphd.datatools.check.mending import Mending
from uniphd.datatools.check.orders import candidate_orders
from uniphd.datatools.check.texts import LONGEST, repaired_text
from uniphd.plain_values import PERSON

_ROW = ("bbox", "area", "num_keypoints", "keypoints", "segmentation", "scribble")
"""The fields of an annotation that describe the person."""


def write_utf8(mending: Mending, finding: Finding) -> bool:
    """All files are written in UTF-8."""
    mending.note(finding, "encoding", "Windows-1252", "UTF-8")
    return True


def give_id(mending: Mending, finding: Finding) -> bool:
    """Make an id an integer that is written as a text, or give an annotation a new one."""
    name, key = finding.field.split(".")
    place = finding.image_place if name == "images" else finding.annotation_place
    entry = mending.content[name][place]
    if not isinstance(entry, dict):
        return False
    value = entry.get(key)
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else None
    if isinstance(value, float) and value.is_integer():
        number = int(value)
    if number is not None and is_id(number):
        return mending.set(finding, name, **{key: number})
    if name == "annotations" and key == "id":
        return mending.set(finding, name, id=mending.new_id(name))
    return False


def renumber(mending: Mending, finding: Finding) -> bool:
    """Give an annotation a new id."""
    return mending.set(finding, "annotations", id=mending.new_id("annotations"))


def separate_images(mending: Mending, finding: Finding) -> bool:
    """Give a second image entry of one id an id of its own, and its person; or leave it out."""
    entry, image_id = mending.entry(finding, "images"), finding.image_id
    first = mending.content["images"][mending.places("images", "id", image_id)[0]]
    annotations = mending.content["annotations"]
    people = [annotations[place] for place in mending.places("annotations", "image_id", image_id)]
    if entry == first:
        return False
    if len(people) != 1 or not _same_image(first, entry):
        mending.drop_id(finding)  # nobody knows who is annotated on which image
        return True
    new = mending.new_id("images")
    person = {**copy.deepcopy(people[0]), "id": mending.new_id("annotations"), "image_id": new}
    mending.content["annotations"].append(person)
    return mending.set(finding, "images", id=new)


def keep_one(mending: Mending, finding: Finding) -> bool:
    """Keep the first of several annotations of one image id where the others are copies."""
    annotations = mending.content["annotations"]
    mine = annotations[finding.annotation_place]
    places = mending.places("annotations", "image_id", mine["image_id"])
    if any(_described(annotations[place]) != _described(mine) for place in places):
        return False
    for place in places[1:]:
        mending.drop(replace(finding, image_place=None, annotation_place=place))
    return True


def name_people(mending: Mending, finding: Finding) -> bool:
    """Call the only category with keypoints "person"."""
    listed = mending.content.get("categories")
    entries = (
        [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    )
    with_keypoints = [each for each in entries if each.get("keypoints")]
    chosen = with_keypoints if len(with_keypoints) == 1 else entries
    if len(chosen) != 1 or not is_id(chosen[0].get("id")):
        return False
    mending.note(finding, "categories.name", shown(chosen[0].get("name")), "'person'")
    chosen[0]["name"] = "person"
    return True


def make_people_category_one(mending: Mending, finding: Finding) -> bool:
    """Give people the category id 1, and whoever has it another one."""
    content = mending.content
    categories = [each for each in content["categories"] if isinstance(each, dict)]
    people = parse_categories(content, finding.file).people
    others = [each for each in categories if each["id"] not in people]
    free = max(each["id"] for each in categories) + 1
    new = {each["id"]: free if each["id"] == PERSON else each["id"] for each in others}
    new |= dict.fromkeys(people, PERSON)
    first = next(each for each in categories if each["id"] in people)
    content["categories"] = [each for each in categories if each in others or each is first]
    mending.note(finding, "categories.id", finding.value, str(PERSON))
    for entry in content["categories"]:
        entry["id"] = new[entry["id"]]
    for annotation in content["annotations"]:
        if isinstance(annotation, dict) and is_id(annotation.get("category_id")):
            annotation["category_id"] = new.get(
                annotation["category_id"], annotation["category_id"]
            )
    return True


def reorder_keypoints(mending: Mending, finding: Finding) -> bool:
    """Put keypoints into the order of the set, and name them so."""
    schema, order = mending.form.schema, mending.form.order
    if finding.kind == "keypoints in another order than named":
        named = finding.note.removeprefix("the limbs are short in ")
        order = candidate_orders(schema)[named]
    if order is None:
        return False
    categories = mending.content.setdefault("categories", [])
    if not categories:
        categories.append({"id": PERSON, "name": "person"})
    people = parse_categories(mending.content, finding.file).people
    for category in categories:
        if category["id"] in people:
            category["keypoints"] = list(schema.names)
            category["skeleton"] = [
                [schema.names.index(name) + 1 for name in line] for line in schema.skeleton
            ]
    for annotation in mending.content["annotations"]:
        values = annotation.get("keypoints") if isinstance(annotation, dict) else None
        if isinstance(values, list) and len(values) == 3 * len(schema):
            annotation["keypoints"] = [v for k in order for v in values[3 * k : 3 * k + 3]]
    mending.note(finding, "keypoints", finding.value, f"in the order of {schema.name}")
    return True


def take_other_caption(mending: Mending, finding: Finding) -> bool:
    """Take the first text of a list, or of the person's further captions."""
    image = mending.entry(finding, "images")
    lists = [image.get("caption"), image.get("captions")]
    texts = [text for each in lists if isinstance(each, list) for text in each if _is_usable(text)]
    if not texts:
        return False
    return mending.set(finding, "images", caption=texts[0], captions=texts)


def keep_texts(mending: Mending, finding: Finding) -> bool:
    """Keep what is text of the further captions."""
    captions = mending.entry(finding, "images").get("captions")
    texts = captions if isinstance(captions, list) else [captions]
    return mending.set(finding, "images", captions=[text for text in texts if _is_usable(text)])


def drop_caption(mending: Mending, finding: Finding) -> bool:
    """Leave out a further caption; the caption itself has to be right."""
    return finding.field == "captions" and keep_texts(mending, finding)


def repair_text(mending: Mending, finding: Finding) -> bool:
    """Decode captions rightly."""
    image = mending.entry(finding, "images")
    values: dict[str, Any] = {"caption": repaired_text(image["caption"])}
    if isinstance(image.get("captions"), list):
        values["captions"] = [repaired_text(text) for text in image["captions"]]
    return mending.set(finding, "images", **values)


def copy_annotation(mending: Mending, finding: Finding) -> bool:
    """Describe the person as the first annotation of the same person does."""
    assert finding.other_place is not None
    first = mending.content["annotations"][finding.other_place]
    return mending.set(
        finding, "annotations", **{key: copy.deepcopy(first[key]) for key in _ROW if key in first}
    )


def correct_name(mending: Mending, finding: Finding) -> bool:
    """Write the image's name as it is in the folder, with `/`."""
    name = str(mending.entry(finding, "images")["file_name"]).replace("\\", "/")
    image = mending.image(str(PurePosixPath(name)))
    if finding.kind == "unsafe path":
        image = mending.image(PurePosixPath(name).name)
        if image.kind == "missing image":
            return False
    mending.images[mending.file.images, image.name] = _in_place(image)
    return mending.set(finding, "images", file_name=image.name)


def copy_linked(mending: Mending, finding: Finding) -> bool:
    """Images are copied, whatever links lead to them."""
    image = mending.image(str(PurePosixPath(finding.value)))
    mending.images[mending.file.images, image.name] = _in_place(image)
    mending.note(finding, "image", "a link", "a copy")
    return True


def use_first_name(mending: Mending, finding: Finding) -> bool:
    """Use the first of the names that have the same bytes."""
    digest = mending.image(finding.value).digest
    return mending.set(finding, "images", file_name=mending.first_name(digest))


def size_from_image(mending: Mending, finding: Finding) -> bool:
    """Take height and width from the image where they are exchanged or the mask has its size."""
    entry = mending.entry(finding, "images")
    name = entry.get("file_name")
    facts = mending.image(name).facts if isinstance(name, str) else None
    if facts is None or facts.orientation != 1:
        return False
    annotation = mending.entry(finding, "annotations")
    height, width = entry.get("height"), entry.get("width")
    exchanged = (width, height) == facts.size
    if exchanged or finding.kind != "image size" or _is_for(annotation, facts.size):
        return mending.set(finding, "images", height=facts.size[0], width=facts.size[1])
    return False


def turn_image(mending: Mending, finding: Finding) -> bool:
    """Store the image upright, as its annotations see it."""
    return _rewrite(mending, finding, "upright")


def remove_orientation(mending: Mending, finding: Finding) -> bool:
    """Store the image without its orientation: pixels as training reads them."""
    return _rewrite(mending, finding, "untagged")


def _rewrite(mending: Mending, finding: Finding, how: str) -> bool:
    name = str(mending.entry(finding, "images")["file_name"]).replace("\\", "/")
    key = (mending.file.images, str(PurePosixPath(name)))
    image = mending.image(key[1])
    if image.facts is None or (image.facts.turned and how == "upright"):
        return False
    if mending.rewritten.get(key) is None:
        size = image.facts.size[::-1] if how == "upright" else image.facts.size
        mending.images[key] = replace(image, facts=ImageFacts(size), digest="")
        mending.rewritten[key] = how
        mending.note(finding, "image", f"EXIF orientation {image.facts.orientation}", how)
    return mending.rewritten[key] == how


def _in_place(image: ImageFile) -> ImageFile:
    return image if image.kind == "unreadable image" else replace(image, kind="", note="")


def _is_for(annotation: dict[str, Any], size: tuple[int, int]) -> bool:
    """Whether run lengths are of this size."""
    runs = annotation.get("segmentation")
    return isinstance(runs, dict) and runs.get("size") == list(size)


def _same_image(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(first.get(key) == second.get(key) for key in ("file_name", "height", "width"))


def _described(annotation: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in annotation.items() if key != "id"}


def _is_usable(text: Any) -> bool:
    return (
        isinstance(text, str)
        and bool(text.strip())
        and len(text) <= LONGEST
        and "\ufffd" not in text
    )
