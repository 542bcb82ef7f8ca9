"""The entries of an annotation file with their places, and what its lists as such have wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uniphd.data.official import is_unlabelled, select_as_official
from uniphd.data.validation import is_id, shown
from uniphd.datatools.check.finding import Entry, Finding


@dataclass(frozen=True, slots=True)
class Pair:
    """An image entry and an annotation that belong together, and their places in the lists."""

    image: Entry
    annotation: Entry
    image_place: int
    annotation_place: int

    def finding(self, kind: str, file: str, **details: Any) -> Finding:
        """A finding about the two."""
        return Finding(
            kind,
            file,
            image_place=self.image_place,
            annotation_place=self.annotation_place,
            image_id=self.image.get("id"),
            annotation_id=self.annotation.get("id"),
            **details,
        )


def pair_entries(content: Entry, file: str, coco_form: bool, findings: list[Finding]) -> list[Pair]:
    """Pair images with annotations as training does; what cannot be paired is found.

    Args:
        content: of the file.
        file: its name, for findings.
        coco_form: whether one image id may have many people, and people no keypoints.
        findings: where to put what is found.
    """
    images = _by_id(content["images"], "images", "id", file, findings)
    annotations = _by_id(content["annotations"], "annotations", "image_id", file, findings)
    places = {id(entry): place for place, entry in enumerate(content["images"])}
    annotation_places = {id(entry): place for place, entry in enumerate(content["annotations"])}
    selection = select_as_official(images, annotations)
    accepted = ("crowd", "person without keypoints", "image without annotation")
    for kind, entry in selection.entries_left_out:
        if coco_form and kind in accepted:
            continue
        if kind == "image without annotation":
            findings.append(
                Finding(kind, file, image_place=places[id(entry)], image_id=entry.get("id"))
            )
        else:
            findings.append(_about_annotation(kind, file, entry, annotation_places[id(entry)]))
    people = [entry for entries in selection.annotations.values() for entry in entries]
    people += [e for k, e in selection.entries_left_out if coco_form and k == accepted[1]]
    findings += _repeated_ids(people, file, annotation_places)
    pairs: list[Pair] = []
    for image_id, entries in _groups(selection.annotations, people if coco_form else ()):
        first, *others = images[image_id]
        for entry in others:
            findings.append(
                Finding(
                    "repeated image id",
                    file,
                    "id",
                    shown(image_id),
                    image_place=places[id(entry)],
                    image_id=image_id,
                )
            )
        if others:
            continue
        if coco_form or len(entries) == 1:
            pairs += (
                Pair(first, entry, places[id(first)], annotation_places[id(entry)])
                for entry in entries
                if not coco_form or entry.get("iscrowd") != 1
            )
            continue
        for entry in entries:
            note = f"{len(entries)} for this image id"
            pair = Pair(first, entry, places[id(first)], annotation_places[id(entry)])
            findings.append(pair.finding("several annotations", file, note=note))
    return [pair for pair in pairs if not _is_zeroed(pair, file, coco_form, findings)]


def _groups(selected: Any, coco_people: Sequence[Entry]) -> Iterator[tuple[int, Sequence[Entry]]]:
    """Annotations by image id; in COCO's form all people, without keypoints, too."""
    if not coco_people:
        yield from sorted(selected.items())
        return
    groups: dict[int, list[Entry]] = defaultdict(list)
    for entry in coco_people:
        groups[entry["image_id"]].append(entry)
    yield from sorted(groups.items())


def _is_zeroed(pair: Pair, file: str, coco_form: bool, findings: list[Finding]) -> bool:
    """Whether a person of a file in COCO's form is nowhere, as where a track of CVAT has ended."""
    annotation = pair.annotation
    if not coco_form:
        return False
    box, keypoints = annotation.get("bbox"), annotation.get("keypoints")
    boxless = not box or (isinstance(box, list) and all(value == 0 for value in box))
    no_keypoints = isinstance(keypoints, list) and all(value == 0 for value in keypoints)
    zeroed = boxless and no_keypoints and is_unlabelled(annotation)
    if zeroed:
        findings.append(pair.finding("zeroed track", file, field="keypoints", value="all 0"))
    return zeroed


def _about_annotation(kind: str, file: str, entry: Entry, place: int) -> Finding:
    return Finding(
        kind,
        file,
        annotation_place=place,
        image_id=entry.get("image_id"),
        annotation_id=entry.get("id"),
    )


def _by_id(
    entries: Sequence[Any], name: str, key: str, file: str, findings: list[Finding]
) -> dict[int, list[Entry]]:
    groups: dict[Any, list[Entry]] = defaultdict(list)
    for place, entry in enumerate(entries):
        value = entry.get(key) if isinstance(entry, Mapping) else entry
        if isinstance(entry, Mapping) and is_id(value):
            groups[value].append(entry)
            continue
        of_image = name == "images"
        findings.append(
            Finding(
                "missing id",
                file,
                f"{name}.{key}",
                shown(value),
                image_place=place if of_image else None,
                annotation_place=None if of_image else place,
            )
        )
    return groups


def _repeated_ids(people: Sequence[Entry], file: str, places: dict[int, int]) -> Iterator[Finding]:
    """Annotations whose id is none, or is that of an earlier one."""
    seen: Counter[Any] = Counter()
    for entry in people:
        value, place = entry.get("id"), places[id(entry)]
        if not is_id(value):
            found = _about_annotation("missing id", file, entry, place)
            yield Finding(
                found.kind,
                file,
                "annotations.id",
                shown(value),
                annotation_place=place,
                image_id=found.image_id,
            )
            continue
        seen[value] += 1
        if seen[value] > 1:
            yield Finding(
                "repeated annotation id",
                file,
                "id",
                shown(value),
                annotation_place=place,
                image_id=entry.get("image_id"),
                annotation_id=value,
            )
