"""The keypoints that an annotation file says it has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.refhuman_folder import write_refhuman
from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.errors import AnnotationError
from uniphd.keypoints import COCO17, CROWDPOSE14, SCHEMAS
from uniphd.metrics.evaluator import RefHumanEvaluator
from uniphd.structures import Instances

CASE = Path(__file__).parents[3] / "shared/cases/05-categories-ignored"
ALPHABETICAL = sorted(COCO17.names)


@pytest.fixture
def rewritten(refhuman_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a file with other `categories`, its keypoints in the order of `names`."""

    def rewrite(categories: Any, names: list[str]) -> Path:
        content = json.loads((refhuman_folder / "RefHuman_val.json").read_text())
        order = [COCO17.names.index(name) for name in names]
        for annotation in content["annotations"]:
            triples = np.array(annotation["keypoints"]).reshape(-1, 3)
            annotation["keypoints"] = triples[order].flatten().tolist()
        path = tmp_path / "file.json"
        path.write_text(json.dumps({**content, "categories": categories}))
        return path

    return rewrite


@pytest.fixture
def people(refhuman_folder: Path) -> tuple[ReferredPerson, ...]:
    return load_annotations(refhuman_folder / "RefHuman_val.json").instances


def test_keypoints_are_put_in_order_by_their_names(
    rewritten: Callable[..., Path], people: tuple[ReferredPerson, ...]
) -> None:
    other = {"id": 2, "name": "dog", "keypoints": ["tail"]}
    path = rewritten([other, {"id": 1, "keypoints": ALPHABETICAL}], ALPHABETICAL)
    for person, expected in zip(load_annotations(path).instances, people, strict=True):
        np.testing.assert_array_equal(person.keypoints, expected.keypoints)
        assert person.schema == COCO17


@pytest.mark.parametrize("categories", [None, [], [{"id": 1}], [{"id": 1, "keypoints": []}], "x"])
def test_a_file_that_names_none_has_the_sets_order(
    categories: Any, rewritten: Callable[..., Path], people: tuple[ReferredPerson, ...]
) -> None:
    loaded = load_annotations(rewritten(categories, list(COCO17.names))).instances
    assert [p.keypoints.tolist() for p in loaded] == [p.keypoints.tolist() for p in people]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["nose", "chin"], "the keypoint 'chin', which .* lacks; choose keypoints=NAME"),
        (list(COCO17.names[:5]), "no keypoint 'left_shoulder', which is in .* coco"),
        ([*COCO17.names, "nose"], "one keypoint twice"),
        (list(CROWDPOSE14.names), "'top_head', which .*; choose keypoints=crowdpose"),
        (["nose", 3], "as 'keypoints' of its category; give their names"),
        ("nose", "as 'keypoints' of its category; give their names"),
    ],
)
def test_other_keypoints_are_refused_with_the_first_that_differs(
    names: Any, says: str, rewritten: Callable[..., Path]
) -> None:
    path = rewritten([{"id": 1, "keypoints": names}], list(COCO17.names))
    with pytest.raises(AnnotationError, match=rf"file\.json has .*{says}"):
        load_annotations(path, "skip")


def with_ids(content: dict[str, Any], categories: Any, *ids: Any) -> dict[str, Any]:
    """The content of a file with other categories, and the ids of categories in turn."""
    for number, annotation in enumerate(content["annotations"]):
        annotation["category_id"] = ids[number % len(ids)]
    return {**content, "categories": categories}


@pytest.fixture
def content(refhuman_folder: Path) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads((refhuman_folder / "RefHuman_val.json").read_text()))


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    def write(content: Any) -> Path:
        path = tmp_path / "file.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.mark.parametrize(
    ("categories", "category_id"),
    [
        ([{"id": 0, "name": "person"}], 0),
        ([{"id": 7, "name": " Person "}, {"id": 1, "name": "dog"}], 7),
        ([{"id": 0, "name": "persons"}, {"id": 1, "name": "person"}], 1),
        ([{"id": 3}], 3),
        ([{"id": 1}, {"id": 2, "name": "dog"}], 1),
        ([{"id": 1, "name": "person"}, {"id": 2, "name": "PERSON"}], 2),
        (None, 1),
        (None, 1.0),
    ],
)
def test_the_name_says_which_category_is_that_of_people(
    categories: Any, category_id: Any, content: dict[str, Any], save: Callable[[Any], Path]
) -> None:
    path = save(with_ids(content, categories, category_id))
    assert len(load_annotations(path).instances) == len(content["annotations"])


@pytest.mark.parametrize(
    ("categories", "category_id", "says"),
    [
        ([{"id": 1, "name": "dog"}], 1, "has the categories ['dog'] and no 'person'"),
        ([{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}], 1, "['dog', 'cat'] and no"),
        ([{"id": "1", "name": "person"}], 1, "category ids ['1']; give every category an integer"),
        ([{"id": 1, "name": "person"}, {"id": 1, "name": "dog"}], 1, "category ids [1, 1]"),
        (
            [{"id": 0, "name": "person"}, {"id": 1, "name": "person", "keypoints": ["nose"]}],
            1,
            "several categories 'person' with different keypoints",
        ),
        ([{"id": 0, "name": "person"}], 1, "'category_id' is 1; in this file, a person is 0"),
        (
            [{"id": 0, "name": "person"}, {"id": 1, "name": "dog"}],
            1,
            "'category_id' is 1, 'dog'; in this file, a person is 0",
        ),
        (None, 0, "'category_id' is 0; in this file, a person is 1"),
        (None, "1", "'category_id' is '1'; in this file"),
        (None, float("nan"), "'category_id' is nan; in this file"),
    ],
)
def test_other_classes_are_refused_by_name(
    categories: Any,
    category_id: Any,
    says: str,
    content: dict[str, Any],
    save: Callable[[Any], Path],
) -> None:
    with pytest.raises(AnnotationError, match=re.escape(says)):
        load_annotations(save(with_ids(content, categories, category_id)))


def test_other_classes_can_be_left_out(
    content: dict[str, Any], save: Callable[[Any], Path]
) -> None:
    categories = [{"id": 0, "name": "person"}, {"id": 1, "name": "dog"}]
    loaded = load_annotations(save(with_ids(content, categories, 0, 1)), "skip")
    assert [person.image_id for person in loaded.instances] == [100_001]
    assert [problem.kind for problem in loaded.skipped] == ["not a person"]


def test_a_missing_category_is_a_person_where_there_is_nothing_else(
    content: dict[str, Any], save: Callable[[Any], Path]
) -> None:
    for annotation in content["annotations"]:
        del annotation["category_id"]
    people = [{"id": 5, "name": "person"}]
    assert load_annotations(save({**content, "categories": people})).instances
    path = save({**content, "categories": [*people, {"id": 6, "name": "dog"}]})
    with pytest.raises(AnnotationError, match=r"is missing, and the file has .*'dog'.*; add it"):
        load_annotations(path)


def test_keypoints_are_found_in_other_spellings(
    rewritten: Callable[..., Path], people: tuple[ReferredPerson, ...]
) -> None:
    names = [name.replace("_", "-" if "left" in name else " ").title() for name in ALPHABETICAL]
    path = rewritten([{"id": 1, "name": "person", "keypoints": names}], ALPHABETICAL)
    for person, expected in zip(load_annotations(path).instances, people, strict=True):
        np.testing.assert_array_equal(person.keypoints, expected.keypoints)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_set_is_read_from_its_own_files(schema: Any, tmp_path: Path) -> None:
    path = write_refhuman(tmp_path, people=2, schema=schema) / "RefHuman_val.json"
    for person in load_annotations(path, schema=schema).instances:
        assert person.keypoints.shape == (len(schema), 3)
        assert person.schema is schema


@pytest.mark.skipif(not CASE.is_dir(), reason="needs the shared cases")
def test_exact_poses_of_a_file_in_alphabetical_order_are_perfect() -> None:
    """Poses written down here by name, from a file that lists its names in another order."""
    path = CASE / "keypoints_in_alphabetical_order" / "RefHuman_val.json"
    content = json.loads(path.read_text())
    names = content["categories"][0]["keypoints"]
    evaluator = RefHumanEvaluator(load_annotations(path).instances)
    for annotation in content["annotations"]:
        place = dict(zip(names, np.array(annotation["keypoints"]).reshape(-1, 3), strict=True))
        pose = np.stack([place[name][:2] for name in COCO17.names])
        x, y, width, height = annotation["bbox"]
        instances = Instances(
            scores=torch.tensor([0.9]),
            boxes=torch.tensor([[x, y, x + width, y + height]]).float(),
            keypoints=torch.from_numpy(pose)[None].float(),
            visibility=torch.ones(1, len(pose)),
            masks=None,
            queries=torch.tensor([0]),
        )
        evaluator.update([annotation["image_id"]], [instances])
    metrics = evaluator.compute()
    assert metrics["pose_AP"] == pytest.approx(1)
    assert metrics["mean_OKS"] == metrics["PCKh@0.5"] == 1
