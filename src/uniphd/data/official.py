"""What RefHuman's official loader leaves out of an annotation file; the same is left out here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

_Entry: TypeAlias = Mapping[str, Any]
_Groups: TypeAlias = Mapping[int, Sequence[_Entry]]


@dataclass(frozen=True)
class OfficialSelection:
    """The entries of a file that become samples, by image id.

    Attributes:
        images: entries of `images`.
        annotations: entries of `annotations`; every image id of `images` has at least one.
        entries_left_out: a kind and an entry of one of the two lists for each one left out.
    """

    images: _Groups
    annotations: _Groups
    entries_left_out: Sequence[tuple[str, _Entry]]

    @property
    def left_out(self) -> Counter[str]:
        """How many entries of each kind are left out."""
        return Counter(kind for kind, _ in self.entries_left_out)


def select_as_official(images: _Groups, annotations: _Groups) -> OfficialSelection:
    """Leave out crowds, images without a person, and people without a labelled keypoint.

    An entry whose `iscrowd` or `keypoints` make no sense is kept, for the check of its fields.

    Args:
        images: entries of `images` by their id.
        annotations: entries of `annotations` by their `image_id`.
    """
    left_out: list[tuple[str, _Entry]] = []
    kept: dict[int, Sequence[_Entry]] = {}
    for image_id, entries in annotations.items():
        people = [entry for entry in entries if entry.get("iscrowd") != 1]
        left_out += [("crowd", entry) for entry in entries if entry.get("iscrowd") == 1]
        if image_id not in images:
            left_out += [("annotation without image", entry) for entry in people]
        elif people and all(map(is_unlabelled, people)):
            left_out += [("person without keypoints", entry) for entry in people]
        elif people:
            kept[image_id] = people
    for image_id in images.keys() - kept.keys():
        if all(entry.get("iscrowd") == 1 for entry in annotations.get(image_id, ())):
            left_out += [("image without annotation", entry) for entry in images[image_id]]
    return OfficialSelection({i: images[i] for i in images if i in kept}, kept, left_out)


def is_unlabelled(annotation: _Entry) -> bool:
    """Whether every keypoint has the visibility 0."""
    keypoints = annotation.get("keypoints")
    visibility = keypoints[2::3] if isinstance(keypoints, list) else []
    return bool(visibility) and all(value == 0 for value in visibility)
