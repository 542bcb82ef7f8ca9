"""Annotation files with anything in them: sound targets, or a sentence with file and id."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.cases import ends_well, share
from tests.fuzz.people import assert_sound_record, assert_sound_target, content
from uniphd.data.annotations import AnnotationFile, ReferredPerson, load_annotations
from uniphd.data.sample import annotate, make_target
from uniphd.data.transforms import TrainingTransform
from uniphd.prompts import KINDS

GOOD = content()

EDGES = [0, -0.0, -1, 0.4, 1, 2, 3, 29, 30, 31, 39, 40, 41]
EXTREMES = [1e-300, 1e-9, 1e9, 1e308, -1e308, 2**31, 2**63, -(2**63), 2**64, 10**400, -(10**4000)]
SENSELESS = [float("nan"), float("inf"), float("-inf")]
NUMBERS = st.one_of(
    st.integers(-3, 60), st.floats(-3, 60), st.sampled_from([*EDGES, *EXTREMES, *SENSELESS])
)
PATHS = ["../../etc/passwd", "/etc/passwd", "..\\..\\x", "C:\\x", "\\\\host\\x", "a\0b", "x" * 999]
PATHS += [".", "a/../../b", "~/x", "a//b", "./a", "COM1", "a\nb"]
WORDS = ["", " ", "\u3000", "\0", "\ud800", "\udcff", "word " * 10_000, "左の人", "🧍" * 50]
WORDS += ["\uff4c\uff45\uff46\uff54", "$(true)", "<b>", "%s{0}"]
TEXTS = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(exclude_categories=[]), max_size=5),  # with halves of surrogate pairs
    st.sampled_from([*PATHS, *WORDS]),
)
DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.just(DEEP)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = sorted({key for entries in GOOD.values() for entry in entries for key in entry})
PERSON = st.integers(0, 2)
LIST = st.sampled_from(["images", "annotations"])


@st.composite
def changes(draw: st.DrawFn) -> tuple[dict[str, Any], set[int]]:
    """A damaged file's content, and the people (0 to 2) whom no change touched."""
    damaged, touched = copy.deepcopy(GOOD), set()
    for _ in range(draw(st.integers(1, 3))):
        name, number = draw(LIST), draw(PERSON)
        touched.add(number)
        entries = damaged[name]
        entry = next((e for e in entries if e == GOOD[name][number] or e is entries[-1]), None)
        kind = draw(st.sampled_from(["value", "element", "element", "remove", "twice", "append"]))
        if not isinstance(entry, dict):
            continue
        if kind == "value":
            entry[draw(st.sampled_from(KEYS))] = draw(VALUES)
        elif kind == "element":
            lists = [key for key in entry if isinstance(entry[key], list) and entry[key]]
            if lists:
                values = entry[draw(st.sampled_from(lists))]
                values[draw(st.integers(0, len(values) - 1))] = draw(st.one_of(NUMBERS, VALUES))
        elif kind == "remove":
            entry.pop(draw(st.sampled_from(KEYS)), None)
        elif kind == "twice":
            entries.append(copy.deepcopy(entry))
        else:
            entries.append(draw(VALUES))
        touched.update(_people_of(damaged))
    return damaged, {0, 1, 2} - touched


def _people_of(damaged: dict[str, Any]) -> set[int]:
    """People who differ from the good file in any way, ids of others included."""
    touched = set()
    for number in range(3):
        for name, key in (("images", "id"), ("annotations", "image_id")):
            same = [e for e in damaged[name] if isinstance(e, dict) and e.get(key) == 10 + number]
            if same != [GOOD[name][number]]:
                touched.add(number)
        ids = [e.get("id") for e in damaged["annotations"] if isinstance(e, dict)]
        if ids.count(70 + number) != 1:
            touched.add(number)
    return touched


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("annotations") / "RefHuman_train.json"


@pytest.fixture(scope="module")
def good(path: Path) -> tuple[ReferredPerson, ...]:
    path.write_text(json.dumps(GOOD))
    return load_annotations(path).instances


def load(path: Path) -> AnnotationFile:
    """Load with "skip"; "raise" stops at the same problems and names the first of them."""
    result = load_annotations(path, on_error="skip")
    if result.skipped:
        with pytest.raises(Exception, match="problem") as caught:
            load_annotations(path)
        assert str(result.skipped[0]) in str(caught.value)
    return result


@share(0.25)
@given(case=changes())
def test_damaged_records(
    path: Path, good: tuple[ReferredPerson, ...], case: tuple[dict[str, Any], set[int]]
) -> None:
    damaged, untouched = case
    path.write_text(json.dumps(damaged))
    with ends_well(str(path)):
        result = load(path)
        for problem in result.skipped:
            assert str(path) in problem.message
            assert " id" in problem.message or "[" in problem.message
        by_id = {person.image_id: person for person in result.instances}
        assert len(by_id) == len(result.instances)
        for number in untouched:
            assert repr(by_id[10 + number]) == repr(good[number])
        for person in result.instances:
            assert_sound_record(person)
            assert_sound_pipeline(person)


def assert_sound_pipeline(person: ReferredPerson) -> None:
    """What training makes of an accepted record of a small image."""
    if person.height * person.width > 10**5:
        return
    transform = TrainingTransform(
        scales=(32, 48), max_size=64, crop_scales=(40,), crop_size=(20, 40)
    )
    image = Image.new("RGB", (person.width, person.height))
    for seed in range(2):
        annotated = transform(annotate(image, [person]), Random(seed))
        assert_sound_target(make_target(annotated.people[0]), annotated.size)
        for kind in KINDS.values():
            prompt = kind.sample(annotated.people[0], Random(seed))
            prompt.require_sound()
            prompt.require_inside(annotated.size)


@share(0.07)
@given(data=st.data())
def test_damaged_bytes(path: Path, data: st.DataObject) -> None:
    raw = bytearray(json.dumps(GOOD).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        kind = data.draw(st.sampled_from(["cut", "set", "insert", "delete"]))
        if kind == "cut":
            del raw[max(place, 1) :]
        elif kind == "set":
            raw[place] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            raw[place:place] = data.draw(st.binary(max_size=6))
        elif len(raw) > 20:
            del raw[place : place + 3]
    path.write_bytes(bytes(raw))
    with ends_well(str(path)):
        for person in load(path).instances:
            assert_sound_record(person)


@share(0.03)
@given(value=VALUES)
def test_any_json_in_place_of_a_file(path: Path, value: Any) -> None:
    for whole in (value, {"images": value, "annotations": value}):
        path.write_text(json.dumps(whole))
        with ends_well(str(path)):
            load(path)
