"""The categories of an annotation file: which are people, and the names of their keypoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from uniphd.data.validation import FieldError, is_id, shown
from uniphd.errors import AnnotationError
from uniphd.keypoints import SCHEMAS, KeypointSchema
from uniphd.plain_values import PERSON

_PERSON_NAME = "person"


@dataclass(frozen=True)
class Categories:
    """The categories of a file.

    Attributes:
        people: the ids of people.
        names: what every id is called; empty where the file has no categories.
        keypoints: names of the people's keypoints, in the order of their numbers; empty where the
            file does not say.
    """

    people: frozenset[int] = frozenset({PERSON})
    names: Mapping[int, str] = field(default_factory=dict)
    keypoints: tuple[str, ...] = ()

    def require_person(self, annotation: Mapping[str, Any]) -> None:
        """Refuse an annotation of another category.

        One without `category_id` is a person where the file has people only.

        Raises:
            FieldError: it is no person, or may be none.
        """
        if "category_id" not in annotation:
            if set(self.names) <= self.people:
                return
            called = shown(list(self.names.values()))
            raise FieldError(
                "missing category_id",
                f"'category_id' is missing, and the file has the categories {called}; add it",
            )
        category = annotation["category_id"]
        if type(category) in (int, float) and category in self.people:
            return
        name = self.names.get(category) if is_id(category) else None
        called = f"{shown(category)}, {shown(name)}" if name else shown(category)
        people = " or ".join(map(str, sorted(self.people)))
        raise FieldError(
            "not a person", f"'category_id' is {called}; in this file, a person is {people}"
        )


def parse_categories(content: Mapping[str, Any], file: str) -> Categories:
    """The categories of a file; the one called "person" is that of people, whichever its id.

    Without a name, the only category or 1 is a person, and without categories 1, as in COCO.

    Args:
        content: of the file.
        file: the file, for messages.

    Raises:
        AnnotationError: none of them is a person, two have one id, or the keypoints of people are
            not a list of names.
    """
    listed = content.get("categories")
    listed = listed if isinstance(listed, list) else []
    entries = [entry for entry in listed if isinstance(entry, dict)]
    if not entries:
        return Categories()
    ids = [entry.get("id") for entry in entries]
    if not all(map(is_id, ids)) or len(set(ids)) < len(ids):
        raise AnnotationError(
            f"{file} has the category ids {shown(ids)}; give every category an integer of its own."
        )
    people = [entry for entry in entries if _is_person_name(entry.get("name"))]
    if not people:
        unnamed = [entry for entry in entries if not entry.get("name")]
        people = [entry for entry in unnamed if entry["id"] == PERSON or len(entries) == 1]
    names = {entry["id"]: str(entry.get("name") or entry["id"]) for entry in entries}
    if not people:
        raise AnnotationError(
            f"{file} has the categories {shown(list(names.values()))} and no 'person'; where one "
            "of them is that of people, call it 'person'."
        )
    keypoints = {_keypoint_names(entry, file) for entry in people}
    if len(keypoints) > 1:
        raise AnnotationError(
            f"{file} has several categories 'person' with different keypoints; keep one."
        )
    return Categories(frozenset(entry["id"] for entry in people), names, keypoints.pop())


def keypoint_order(categories: Categories, schema: KeypointSchema, file: str) -> list[int]:
    """Where the keypoints of a set stand in a file's lists of keypoints.

    A file that does not name them has the set's own order. `Left Eye` and `left-eye` are `left_eye`
    of the set. What the category calls `skeleton` is
    not read: poses are drawn with the lines of the set.

    Args:
        categories: of the file.
        schema: the K keypoints that are wanted.
        file: the file, for messages.

    Returns:
        K places.

    Raises:
        AnnotationError: the file has other keypoints than the set.
    """
    names = [_in_one_spelling(name, schema) for name in categories.keypoints] or list(schema.names)
    if sorted(names) == sorted(schema.names):
        return [names.index(name) for name in schema.names]
    strange = next((name for name in names if name not in schema.names), None)
    missing = next((name for name in schema.names if name not in names), None)
    differs = "one keypoint twice"
    if strange is not None:
        differs = f"the keypoint {shown(strange)}, which {schema} lacks"
    elif missing is not None:
        differs = f"no keypoint '{missing}', which is in {schema}"
    fitting = [name for name, other in SCHEMAS.items() if set(other.names) == set(names)]
    advice = f"keypoints={fitting[0]}" if fitting else "keypoints=NAME with the set of this file"
    raise AnnotationError(f"{file} has {differs}; choose {advice}.")


def _is_person_name(name: Any) -> bool:
    return isinstance(name, str) and name.strip().casefold() == _PERSON_NAME


def _keypoint_names(category: Mapping[str, Any], file: str) -> tuple[str, ...]:
    names = category.get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AnnotationError(
            f"{file} has {shown(names)} as 'keypoints' of its category; give their names."
        )
    return tuple(names)


def _in_one_spelling(name: str, schema: KeypointSchema) -> str:
    """The set's name of a keypoint that is spelled with other letters or separators."""
    plain = {_plain(known): known for known in schema.names}
    return plain.get(_plain(name), name)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())
