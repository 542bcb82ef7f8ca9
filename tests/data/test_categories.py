"""The keypoints that an annotation file says it has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
