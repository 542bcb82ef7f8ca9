"""Image files with any bytes in them: RGB of the annotated size, or a sentence with the path."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import damaged_images as damaged_images
from tests.fuzz.cases import ends_well, share
from tests.refhuman_folder import write_refhuman
from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.data.images import ImageFolder, verify_images

# Pillow warns of damage that it can do without; a run goes on then, and so must these tests.
pytestmark = pytest.mark.filterwarnings("ignore")

WIDTH, HEIGHT = damaged_images.SIZE
KINDS = sorted({**damaged_images.GOOD, **damaged_images.BAD})


@cache
def drawn(kind: str) -> bytes:
    return {**damaged_images.GOOD, **damaged_images.BAD}[kind]()


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of the corpus with a few bytes changed."""
    raw = bytearray(drawn(draw(st.sampled_from(KINDS))))
    for _ in range(draw(st.integers(0, 5))):
        place = draw(st.one_of(st.integers(0, 40), st.integers(0, max(0, len(raw) - 1))))
        kind = draw(st.sampled_from(["set", "cut", "insert", "delete", "repeat"]))
        if kind == "set" and place < len(raw):
            raw[place] = draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 127, 128, 255])))
        elif kind == "cut":
            del raw[place:]
        elif kind == "insert":
            raw[place:place] = draw(st.binary(max_size=8))
        elif kind == "delete":
            del raw[place : place + draw(st.integers(1, 8))]
        else:
            raw[place:place] = raw[place : place + 64]
    return bytes(raw)


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> ReferredPerson:
    folder = write_refhuman(tmp_path_factory.mktemp("people"), people=1)
    record = load_annotations(folder / "RefHuman_train.json").instances[0]
    return replace(record, height=HEIGHT, width=WIDTH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@share(0.12)
@given(raw=files(), suffix=st.sampled_from([".jpg", ".png", ".gif", ""]))
def test_damaged_images(folder: Path, person: ReferredPerson, raw: bytes, suffix: str) -> None:
    path = folder / f"image{suffix}"
    path.write_bytes(raw)
    person = replace(person, file_name=path.name)
    flaws = verify_images([person], folder, workers=1)
    assert all(str(path) in flaw.message for flaw in flaws)
    with ends_well(str(path), f"image id {person.image_id}"):
        try:
            image = ImageFolder(folder)(person)
        except Exception:
            assert flaws, "the check before training finds what training would stumble over"
            raise
        assert (image.mode, image.size) == ("RGB", (WIDTH, HEIGHT))
        assert len(image.tobytes()) == 3 * WIDTH * HEIGHT
