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
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.errors import AnnotationError
from uniphd.inference.postprocess import Answers
from uniphd.metrics.evaluator import RefHumanEvaluator
from uniphd.metrics.report import write_report

MakePerson = Callable[..., ReferredPerson]
MakeAnswers = Callable[..., Answers]

NAMES = [
    *("pose_AP", "pose_AP50", "pose_AP75", "pose_APM", "pose_APL", "pose_AR", "PCKh@0.5"),
    *("oIoU", "mIoU", "P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9", "mask_AP", "box_AP"),
    *("pick", "referring_acc", "swap"),
    *("mean_OKS", "pose_pick", "pose_referring_acc", "pose_swap"),
]
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


def test_perfect_answers(people: list[ReferredPerson], make_answers: MakeAnswers) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people:
        evaluator.update(person.image_id, make_answers(person, wrong=3))
    metrics = evaluator.compute()
    assert list(metrics) == NAMES
    assert math.isnan(metrics.pop("pose_APL")) != math.isnan(metrics.pop("pose_APM"))
    assert metrics == pytest.approx(dict.fromkeys(metrics, 1.0))


@pytest.mark.parametrize(("noise", "wrong"), [(0.0, 0), (4.0, 25), (12.0, 3)])
def test_real_annotations_agree_with_pycocotools_on_files(
    refhuman_mini: Path, tmp_path: Path, make_answers: MakeAnswers, noise: float, wrong: int
) -> None:
    source = refhuman_mini / "RefHuman_val.json"
    people = load_annotations(source).instances
    evaluator = RefHumanEvaluator(people)
    rng = np.random.default_rng(0)
    for person in people:
        answers = make_answers(person, noise=noise, wrong=wrong, score=float(rng.uniform(0.2, 1)))
        evaluator.update(person.image_id, answers)
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
    people: list[ReferredPerson], make_answers: MakeAnswers
) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people:
        answers = make_answers(person, wrong=30)
        # The right answer is the 21st.
        scores = answers.scores.clone()
        scores[0] = scores[1:].sort(descending=True).values[19] - 1e-4
        evaluator.update(person.image_id, replace(answers, scores=scores))
    assert all(len(entries) == 20 * len(people) for entries in evaluator.coco_results().values())
    assert evaluator.compute()["pose_AP"] == 0


def test_answers_need_not_be_sorted(
    people: list[ReferredPerson], make_answers: MakeAnswers
) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people:
        answers = make_answers(person, wrong=4)
        mixed = {name: values.flip(0) for name, values in vars(answers).items()}
        evaluator.update(person.image_id, Answers(**mixed))
    metrics = evaluator.compute()
    assert metrics["mIoU"] == metrics["PCKh@0.5"] == 1
    assert metrics["pose_AP"] == pytest.approx(1)


def test_missing_images_count_as_missed(
    people: list[ReferredPerson], make_answers: MakeAnswers
) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people[:2]:
        evaluator.update(person.image_id, make_answers(person))
    metrics = evaluator.compute()
    assert metrics["mIoU"] == metrics["oIoU"] == metrics["PCKh@0.5"] == pytest.approx(2 / 5)
    assert metrics["pose_AR"] == metrics["mean_OKS"] == pytest.approx(2 / 5)
    assert metrics["pick"] == metrics["pose_pick"] == 1 / 2
    assert metrics["swap"] == metrics["pose_swap"] == 0


def test_no_answers_at_all(people: list[ReferredPerson]) -> None:
    metrics = RefHumanEvaluator(people).compute()
    assert list(metrics) == NAMES
    defined = {name: value for name, value in metrics.items() if not math.isnan(value)}
    assert len(defined) == len(NAMES) - 1  # one of medium and large has nobody
    assert set(defined.values()) == {0.0}


def test_empty_answers(people: list[ReferredPerson], make_answers: MakeAnswers) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people:
        answers = make_answers(person)
        nothing = {name: values[:0] for name, values in vars(answers).items()}
        evaluator.update(person.image_id, Answers(**nothing))
    metrics = evaluator.compute()
    assert metrics["pose_AP"] == metrics["mIoU"] == metrics["PCKh@0.5"] == metrics["mask_AP"] == 0


def test_repeated_image_ids_count_once(
    people: list[ReferredPerson], make_answers: MakeAnswers
) -> None:
    once, often = RefHumanEvaluator(people), RefHumanEvaluator(people)
    for person in people:
        answers = make_answers(person, noise=6, wrong=5)
        once.update(person.image_id, answers)
        for _ in range(3 if person is people[0] else 1):
            often.update(person.image_id, answers)
    assert once.compute() == pytest.approx(often.compute(), nan_ok=True)


def test_reset_forgets(people: list[ReferredPerson], make_answers: MakeAnswers) -> None:
    evaluator = RefHumanEvaluator(people)
    evaluator.update(people[0].image_id, make_answers(people[0]))
    evaluator.reset()
    assert evaluator.coco_results()["keypoints"] == []
    assert evaluator.compute()["mIoU"] == 0


def test_a_model_without_masks(people: list[ReferredPerson], make_answers: MakeAnswers) -> None:
    evaluator = RefHumanEvaluator(people)
    for person in people:
        evaluator.update(person.image_id, replace(make_answers(person), masks=None))
    metrics = evaluator.compute()
    assert list(metrics) == NAMES
    assert all(math.isnan(metrics[name]) for name in MASK_NAMES)
    assert metrics["pose_AP"] == pytest.approx(1)
    assert metrics["box_AP"] == pytest.approx(1)
    assert metrics["pose_swap"] == 1
    assert set(evaluator.coco_results()) == {"keypoints", "bbox"}


def test_annotation_id_zero_can_be_found(
    make_person: MakePerson, make_answers: MakeAnswers
) -> None:
    person = make_person(image_id=9, annotation_id=0)
    evaluator = RefHumanEvaluator([person])
    evaluator.update(9, make_answers(person))
    assert evaluator.compute()["pose_AP"] == pytest.approx(1)


def test_nobody_with_keypoints_is_undefined(
    make_person: MakePerson, make_answers: MakeAnswers
) -> None:
    person = make_person(image_id=2, labelled=False)
    evaluator = RefHumanEvaluator([person])
    evaluator.update(2, make_answers(person))
    metrics = evaluator.compute()
    assert math.isnan(metrics["pose_AP"])
    assert math.isnan(metrics["PCKh@0.5"])
    assert math.isnan(metrics["mean_OKS"])
    assert metrics["mask_AP"] == pytest.approx(1)


def test_results_are_in_cocos_format(
    people: list[ReferredPerson], make_answers: MakeAnswers
) -> None:
    evaluator = RefHumanEvaluator(people)
    evaluator.update(7, make_answers(people[2], noise=3))
    results = json.loads(json.dumps(evaluator.coco_results()))
    (pose,), (mask,), (box,) = results["keypoints"], results["segm"], results["bbox"]
    for entry in (pose, mask, box):
        assert (entry["image_id"], entry["category_id"]) == (7, 1)
        assert entry["score"] == pytest.approx(0.9)
    assert len(pose["keypoints"]) == 51
    assert pose["keypoints"][2::3] == [0.75] * 17
    assert mask["segmentation"]["size"] == [160, 200]
    answers = make_answers(people[2], noise=3)
    left, top, right, bottom = answers.boxes[0].tolist()
    assert box["bbox"] == pytest.approx([left, top, right - left, bottom - top], rel=1e-5)


def test_unknown_image_id(people: list[ReferredPerson], make_answers: MakeAnswers) -> None:
    with pytest.raises(AnnotationError, match="image id 99 is not in the annotations"):
        RefHumanEvaluator(people).update(99, make_answers(people[0]))


def test_masks_of_another_size(people: list[ReferredPerson], make_answers: MakeAnswers) -> None:
    answers = make_answers(people[0])
    cropped = replace(answers, masks=answers.masks[:, :100] if answers.masks is not None else None)
    with pytest.raises(AnnotationError, match=r"image id 3 \(3.jpg\).*100 x 200.*160 x 200"):
        RefHumanEvaluator(people).update(3, cropped)


def test_nothing_is_printed(
    people: list[ReferredPerson], make_answers: MakeAnswers, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluator = RefHumanEvaluator(people)
    evaluator.update(3, make_answers(people[0]))
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
for image_id, answers in shares[rank]:
    evaluator.update(image_id, answers)
report = {
    "metrics": evaluator.compute(),
    "entries": {task: len(entries) for task, entries in evaluator.coco_results().items()},
}
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump(report, file)
distributed.destroy_process_group()
"""


def test_two_processes_agree_with_one(
    people: list[ReferredPerson], make_answers: MakeAnswers, tmp_path: Path
) -> None:
    answers = [(p.image_id, make_answers(p, noise=5, wrong=3)) for p in people]
    alone = RefHumanEvaluator(people)
    for image_id, answer in answers:
        alone.update(image_id, answer)
    # Uneven shares with the repetition that a distributed sampler adds, and one image on both.
    work = (people, [answers[:2] + answers[:1], answers[1:]])
    (tmp_path / "work.pkl").write_bytes(pickle.dumps(work))
    (tmp_path / "run.py").write_text(_TWO_PROCESSES)
    command = [sys.executable, str(tmp_path / "run.py")]
    processes = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for rank in range(2):
        report = json.loads((tmp_path / f"{rank}.json").read_text())
        assert report["metrics"] == pytest.approx(alone.compute(), nan_ok=True)
        assert report["entries"] == {"keypoints": 20, "segm": 20, "bbox": 20}
