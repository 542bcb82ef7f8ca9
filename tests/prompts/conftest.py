"""A person to make prompts of."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.data.images import read_image
from uniphd.data.sample import AnnotatedPerson, annotate, resize


@pytest.fixture
def person(refhuman_folder: Path) -> ReferredPerson:
    """A drawn person."""
    return load_annotations(refhuman_folder / "RefHuman_train.json").instances[1]


@pytest.fixture
def someone(refhuman_folder: Path, person: ReferredPerson) -> AnnotatedPerson:
    """The person in an image twice and a bit as large."""
    image = read_image(refhuman_folder / "images" / person.file_name)
    return resize(annotate(image, [person]), (277, 381)).people[0]
