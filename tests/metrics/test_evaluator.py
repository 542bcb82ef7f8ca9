from __future__ import annotations

import contextlib
import io
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.errors import AnnotationError
from uniphd.metrics.evaluator import METRICS, RefHumanEvaluator
from uniphd.metrics.report import write_report
from uniphd.structures import Instances

MakePerson = Callable[..., ReferredPerson]
MakeInstances = Callable[..., Instances]

NAMES = list(METRICS)
pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")  # before `update`

POSE_NAMES = NAMES[:6]
MASK_NAMES = ["oIoU", "mIoU", "P@0.5", "P@0.9", "mask_AP", "pick", "referring_acc", "swap"]


@pytest.fixture
def people(make_person: MakePerson) -> list[ReferredPerson]:
    """Five people in four images: 3 and 7 share one."""
    people = [make_person(image_id) for image_id in (3, 1, 7, 5, 40)]
    return [replace(p, file_name="3.jpg") if p.image_id == 7 else p for p in people]


def _official(annotations: Path, results: Path, task: str) -> np.ndarray[Any, Any]:
    """pycocotools on files, as its documentation says."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


def test_perfect_answers(people: list[ReferredPerson], make_instances: MakeInstances) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people:
        evaluator.update([person.image_id], [make_instances(person, wrong=3)])
    metrics = evaluator.compute()
    assert list(metrics) == NAMES
    assert math.isnan(metrics.pop("pose_APL")) != math.isnan(metrics.pop("pose_APM"))
    assert metrics == pytest.approx(dict.fromkeys(metrics, 1.0))


@pytest.mark.parametrize(("noise", "wrong"), [(0.0, 0), (4.0, 25), (12.0, 3)])
def test_real_annotations_agree_with_pycocotools_on_files(
    refhuman_mini: Path, tmp_path: Path, make_instances: MakeInstances, noise: float, wrong: int
) -> None:
    source = refhuman_mini / "RefHuman_val.json"
    people = load_annotations(source).instances
    evaluator = RefHumanEvaluator(people)
    rng = np.random.default_rng(0)
    for person in people:
        instances = make_instances(
            person, noise=noise, wrong=wrong, score=float(rng.uniform(0.2, 1))
        )
        evaluator.update([person.image_id], [instances])
    metrics = evaluator.compute()
    write_report(tmp_path, {"text": metrics}, {"text": evaluator.coco_results()})
    official = {
        task: _official(source, tmp_path / f"text_{task}.json", task)
        for task in ("keypoints", "segm", "bbox")
    }
    ours = [metrics[name] for name in POSE_NAMES]
    expected = np.where(official["keypoints"][:6] < 0, np.nan, official["keypoints"][:6])
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    assert metrics["mask_AP"] == pytest.approx(official["segm"][0], abs=1e-12)
    assert metrics["box_AP"] == pytest.approx(official["bbox"][0], abs=1e-12)
    if noise:
        assert 0 < metrics["pose_AP"] < 1
        assert 0 < metrics["mask_AP"] < 1
    else:
        assert metrics == pytest.approx(dict.fromkeys(metrics, 1.0))


def test_only_the_best_twenty_take_part(
    people: list[ReferredPerson], make_instances: MakeInstances
) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people:
        instances = make_instances(person, wrong=30)
        # The right instances is the 21st.
        scores = instances.scores.clone()
        scores[0] = scores[1:].sort(descending=True).values[19] - 1e-4
        evaluator.update([person.image_id], [replace(instances, scores=scores)])
    assert all(len(entries) == 20 * len(people) for entries in evaluator.coco_results().values())
    assert evaluator.compute()["pose_AP"] == 0


def test_answers_need_not_be_sorted(
    people: list[ReferredPerson], make_instances: MakeInstances
) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people:
        instances = make_instances(person, wrong=4)
        mixed = {name: values.flip(0) for name, values in vars(instances).items()}
        evaluator.update([person.image_id], [Instances(**mixed)])
    metrics = evaluator.compute()
    assert metrics["mIoU"] == metrics["PCKh@0.5"] == 1
    assert metrics["pose_AP"] == pytest.approx(1)


def test_equal_scores_keep_their_order(
    people: list[ReferredPerson], make_instances: MakeInstances
) -> None:
    """Of 40 detections with one score the first 20 take part, and the first of all is the best."""
    person = people[0]
    right, wrong = make_instances(person), make_instances(people[1])
    columns = {
        name: torch.cat([values, vars(wrong)[name].repeat(39, *[1] * (values.dim() - 1))])
        for name, values in vars(right).items()
    }
    columns["boxes"][:, 0] = torch.arange(40)
    evaluator = RefHumanEvaluator([person])
    evaluator.update([person.image_id], [Instances(**columns)])
    assert [entry["bbox"][0] for entry in evaluator.coco_results()["bbox"]] == list(range(20))
    metrics = evaluator.compute()
    assert metrics["mIoU"] == metrics["PCKh@0.5"] == metrics["mean_OKS"] == 1


def test_a_batch_counts_as_its_prompts_one_by_one(
    people: list[ReferredPerson], make_instances: MakeInstances
) -> None:
    found = [make_instances(person, noise=3, wrong=2) for person in people]
    together, alone = RefHumanEvaluator(people), RefHumanEvaluator(people)
    together.update([person.image_id for person in people], found)
    for person, instances in zip(people, found, strict=True):
        alone.update([person.image_id], [instances])
    assert together.coco_results() == alone.coco_results()
    assert together.compute() == pytest.approx(alone.compute(), nan_ok=True, abs=0, rel=0)


def test_it_is_a_metric_that_moves_and_goes_on_after_compute(
    people: list[ReferredPerson], make_instances: MakeInstances
) -> None:
    evaluator = RefHumanEvaluator(people)
    evaluator.update([people[0].image_id], [make_instances(people[0])])
    assert evaluator.to("cpu").compute()["mIoU"] == pytest.approx(1 / 5)
    evaluator.update([people[1].image_id], [make_instances(people[1])])
    assert evaluator.compute()["mIoU"] == pytest.approx(2 / 5)


def test_missing_images_count_as_missed(
    people: list[ReferredPerson], make_instances: MakeInstances
) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people[:2]:
        evaluator.update([person.image_id], [make_instances(person)])
    metrics = evaluator.compute()
    assert metrics["mIoU"] == metrics["oIoU"] == metrics["PCKh@0.5"] == pytest.approx(2 / 5)
    assert metrics["pose_AR"] == metrics["mean_OKS"] == pytest.approx(2 / 5)
    assert metrics["pick"] == metrics["pose_pick"] == 1 / 2
    assert metrics["swap"] == metrics["pose_swap"] == 0


def test_no_detections_at_all(people: list[ReferredPerson]) -> None:
    metrics = RefHumanEvaluator(people).compute()
    assert list(metrics) == NAMES
    defined = {name: value for name, value in metrics.items() if not math.isnan(value)}
    assert len(defined) == len(NAMES) - 1  # one of medium and large has nobody
    assert set(defined.values()) == {0.0}


def test_empty_answers(people: list[ReferredPerson], make_instances: MakeInstances) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people:
        instances = make_instances(person)
        nothing = {name: values[:0] for name, values in vars(instances).items()}
        evaluator.update([person.image_id], [Instances(**nothing)])
    metrics = evaluator.compute()
    assert metrics["pose_AP"] == metrics["mIoU"] == metrics["PCKh@0.5"] == metrics["mask_AP"] == 0


def test_repeated_image_ids_count_once(
    people: list[ReferredPerson], make_instances: MakeInstances
) -> None:
    once, often = RefHumanEvaluator(people), RefHumanEvaluator(people)
    for person in people:
        instances = make_instances(person, noise=6, wrong=5)
        once.update([person.image_id], [instances])
        for _ in range(3 if person is people[0] else 1):
            often.update([person.image_id], [instances])
    assert once.compute() == pytest.approx(often.compute(), nan_ok=True)


def test_reset_forgets(people: list[ReferredPerson], make_instances: MakeInstances) -> None:
    evaluator = RefHumanEvaluator(people)
    evaluator.update([people[0].image_id], [make_instances(people[0])])
    evaluator.reset()
    assert evaluator.coco_results()["keypoints"] == []
    assert evaluator.compute()["mIoU"] == 0


def test_a_model_without_masks(people: list[ReferredPerson], make_instances: MakeInstances) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people:
        evaluator.update([person.image_id], [replace(make_instances(person), masks=None)])
    metrics = evaluator.compute()
    assert list(metrics) == NAMES
    assert all(math.isnan(metrics[name]) for name in MASK_NAMES)
    assert metrics["pose_AP"] == pytest.approx(1)
    assert metrics["box_AP"] == pytest.approx(1)
    assert metrics["pose_swap"] == 1
    assert set(evaluator.coco_results()) == {"keypoints", "bbox"}


def test_annotation_id_zero_can_be_found(
    make_person: MakePerson, make_instances: MakeInstances
) -> None:
    person = make_person(image_id=9, annotation_id=0)
    evaluator = RefHumanEvaluator([person])
    evaluator.update([9], [make_instances(person)])
    assert evaluator.compute()["pose_AP"] == pytest.approx(1)


def test_nobody_with_keypoints_is_undefined(
    make_person: MakePerson, make_instances: MakeInstances
) -> None:
    person = make_person(image_id=2, labelled=False)
    evaluator = RefHumanEvaluator([person])
    evaluator.update([2], [make_instances(person)])
    metrics = evaluator.compute()
    assert math.isnan(metrics["pose_AP"])
    assert math.isnan(metrics["PCKh@0.5"])
    assert math.isnan(metrics["mean_OKS"])
    assert metrics["mask_AP"] == pytest.approx(1)


def test_results_are_in_cocos_format(
    people: list[ReferredPerson], make_instances: MakeInstances
) -> None:
    evaluator = RefHumanEvaluator(people)
    evaluator.update([7], [make_instances(people[2], noise=3)])
    results = json.loads(json.dumps(evaluator.coco_results()))
    (pose,), (mask,), (box,) = results["keypoints"], results["segm"], results["bbox"]
    for entry in (pose, mask, box):
        assert (entry["image_id"], entry["category_id"]) == (7, 1)
        assert entry["score"] == pytest.approx(0.9)
    assert len(pose["keypoints"]) == 51
    assert pose["keypoints"][2::3] == [0.75] * 17
    assert mask["segmentation"]["size"] == [160, 200]
    instances = make_instances(people[2], noise=3)
    left, top, right, bottom = instances.boxes[0].tolist()
    assert box["bbox"] == pytest.approx([left, top, right - left, bottom - top], rel=1e-5)


def test_unknown_image_id(people: list[ReferredPerson], make_instances: MakeInstances) -> None:
    with pytest.raises(AnnotationError, match="image id 99 is not in the annotations"):
        RefHumanEvaluator(people).update([99], [make_instances(people[0])])


def test_masks_of_another_size(people: list[ReferredPerson], make_instances: MakeInstances) -> None:
    instances = make_instances(people[0])
    cropped = replace(
        instances, masks=instances.masks[:, :100] if instances.masks is not None else None
    )
    with pytest.raises(AnnotationError, match=r"image id 3 \(3.jpg\).*100 x 200.*160 x 200"):
        RefHumanEvaluator(people).update([3], [cropped])


def test_nothing_is_printed(
    people: list[ReferredPerson], make_instances: MakeInstances, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluator = RefHumanEvaluator(people)
    evaluator.update([3], [make_instances(people[0])])
    evaluator.compute()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


_TWO_PROCESSES = """
import json, pickle, sys
from torch import distributed
from uniphd.metrics.evaluator import RefHumanEvaluator

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
with open(f"{folder}/work.pkl", "rb") as file:
    people, shares = pickle.load(file)
evaluator = RefHumanEvaluator(people)
for image_id, instances in shares[rank]:
    evaluator.update([image_id], [instances])
with evaluator.sync_context():
    results = evaluator.coco_results()
report = {
    "metrics": evaluator.compute(),
    "entries": {task: len(entries) for task, entries in results.items()},
}
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump(report, file)
distributed.destroy_process_group()
"""


def test_two_processes_agree_with_one(
    people: list[ReferredPerson], make_instances: MakeInstances, tmp_path: Path
) -> None:
    found = [(p.image_id, make_instances(p, noise=5, wrong=3)) for p in people]
    alone = RefHumanEvaluator(people)
    for image_id, instances in found:
        alone.update([image_id], [instances])
    # Uneven shares with the repetition that a distributed sampler adds, and one image on both.
    work = (people, [found[:2] + found[:1], found[1:]])
    (tmp_path / "work.pkl").write_bytes(pickle.dumps(work))
    (tmp_path / "run.py").write_text(_TWO_PROCESSES)
    command = [sys.executable, str(tmp_path / "run.py")]
    processes = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for rank in range(2):
        report = json.loads((tmp_path / f"{rank}.json").read_text())
        assert report["metrics"] == pytest.approx(alone.compute(), nan_ok=True)
        assert report["entries"] == {"keypoints": 20, "segm": 20, "bbox": 20}


def test_who_was_not_asked_for_is_a_distractor(
    people: list[ReferredPerson], make_instances: MakeInstances
) -> None:
    asked = people[0]
    other = next(p for p in people[1:] if p.file_name == asked.file_name)
    right, wrong = (RefHumanEvaluator(people, only_asked=True) for _ in range(2))
    right.update([asked.image_id], [make_instances(asked)])
    wrong.update([asked.image_id], [make_instances(other)])
    metrics = right.compute()
    assert right.counted == 1
    assert metrics["mIoU"] == metrics["PCKh@0.5"] == metrics["pose_AR"] == pytest.approx(1)
    assert metrics["pick"] == metrics["pose_pick"] == 1
    assert wrong.compute()["pick"] == 0
    nothing = {name: values[:0] for name, values in vars(make_instances(asked)).items()}
    right.update([other.image_id], [Instances(**nothing)])
    assert right.compute()["mIoU"] == pytest.approx(1 / 2)  # asked for, and missed
