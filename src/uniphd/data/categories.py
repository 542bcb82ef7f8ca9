"""What an annotation file says about its keypoints: their names, in the order of its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uniphd.data.validation import shown
from uniphd.errors import AnnotationError
from uniphd.keypoints import SCHEMAS, KeypointSchema
from uniphd.structures import PERSON


def keypoint_order(content: Mapping[str, Any], schema: KeypointSchema, file: str) -> list[int]:
    """Where the keypoints of a set stand in a file's lists of keypoints.

    The names are those of `categories[].keypoints`; a file without has the set's own order. What
    the category calls `skeleton` is not read: poses are drawn with the lines of the set.

    Args:
        content: of the file.
        schema: the K keypoints that are wanted.
        file: the file, for messages.

    Returns:
        K places.

    Raises:
        AnnotationError: the file has other keypoints than the set.
    """
    names = _names(content.get("categories"), file) or list(schema.names)
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


def _names(categories: Any, file: str) -> list[str]:
    """The keypoints' names in the category of people; none where they are not given."""
    for category in categories if isinstance(categories, list) else []:
        if isinstance(category, dict) and category.get("id") == PERSON:
            names = category.get("keypoints") or []
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise AnnotationError(
                    f"{file} has {shown(names)} as 'keypoints' of its category; give their names."
                )
            return names
    return []
