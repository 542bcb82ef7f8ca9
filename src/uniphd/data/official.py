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
        left_out: how many entries of each kind are left out.
    """

    images: _Groups
    annotations: _Groups
    left_out: Counter[str]


def select_as_official(images: _Groups, annotations: _Groups) -> OfficialSelection:
    """Leave out crowds, images without a person, and people without a labelled keypoint.

    An entry whose `iscrowd` or `keypoints` make no sense is kept, for the check of its fields.

    Args:
        images: entries of `images` by their id.
        annotations: entries of `annotations` by their `image_id`.
    """
    left_out: Counter[str] = Counter()
    kept: dict[int, Sequence[_Entry]] = {}
    for image_id, entries in annotations.items():
        people = [entry for entry in entries if entry.get("iscrowd") != 1]
        left_out["crowd"] += len(entries) - len(people)
        if image_id not in images:
            left_out["annotation without image"] += len(people)
        elif people and all(map(_is_unlabelled, people)):
            left_out["person without keypoints"] += len(people)
        elif people:
            kept[image_id] = people
    for image_id in images.keys() - kept.keys():
        if all(entry.get("iscrowd") == 1 for entry in annotations.get(image_id, ())):
            left_out["image without annotation"] += len(images[image_id])
    return OfficialSelection({i: images[i] for i in images if i in kept}, kept, +left_out)


def _is_unlabelled(annotation: _Entry) -> bool:
    """Whether every keypoint has the visibility 0."""
    keypoints = annotation.get("keypoints")
    visibility = keypoints[2::3] if isinstance(keypoints, list) else []
    return bool(visibility) and all(value == 0 for value in visibility)
