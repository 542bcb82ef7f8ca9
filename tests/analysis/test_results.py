"""Judged detections, against the evaluator and against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.composition import TINY, compose_train
from uniphd.analysis.results import contact_row, examine, judge, people_by_id, worst
from uniphd.config.compose import build, build_network
from uniphd.inference.detect import detect
from uniphd.metrics.evaluator import RefHumanEvaluator
from uniphd.models.build import build_tokenizer
from uniphd.structures import Instances


def one(keypoints: np.ndarray, mask: np.ndarray | None) -> Instances:
    """One detection with a given skeleton (17, 2) and mask."""
    return Instances(
        scores=torch.tensor([0.75]),
        queries=torch.zeros(1, dtype=torch.int64),
        boxes=torch.zeros(1, 4),
        keypoints=torch.from_numpy(keypoints).float()[None],
        visibility=torch.full((1, 17), 0.9),
        masks=None if mask is None else torch.from_numpy(mask.astype(bool))[None],
    )


def test_results_add_up_to_the_evaluators_metrics(drawn) -> None:
    records = [record for scene in drawn for record in scene.annotations]
    people = people_by_id(records)
    evaluator = RefHumanEvaluator(records)
    results = []
    for number, record in enumerate(records):
        shown = people[record.image_id][0][0] if number % 3 == 0 else record
        shift = number % 4
        mask = np.roll(shown.mask(), shift, axis=1)
        instances = one(shown.keypoints[:, :2] + shift, mask)
        evaluator.update([record.image_id], [instances])
        results.append(judge(record, "text", *people[record.image_id], instances))
    metrics = evaluator.compute()
    assert np.mean([r.iou for r in results]) == pytest.approx(metrics["mIoU"])
    assert np.mean([r.oks for r in results]) == pytest.approx(metrics["mean_OKS"])
    assert np.mean([r.picked for r in results]) == pytest.approx(metrics["pick"])
    assert np.mean([r.found for r in results]) == pytest.approx(metrics["referring_acc"])
    assert 0 < metrics["referring_acc"] <= metrics["pick"] < 1


def test_whom_a_detection_shows(make_person) -> None:
    people = make_person(1, 20), make_person(2, 30), make_person(3, 150)

    def shown(mask: np.ndarray | None):
        return judge(people[1], "point", people, 1, one(np.zeros((17, 2)), mask))

    own, other, nobody = shown(people[1].mask()), shown(people[0].mask()), shown(None)
    assert (own.shown, own.found, own.iou) == (1, True, 1.0)
    assert (other.shown, other.found, other.iou) == (0, False, pytest.approx(1 / 3))
    assert (nobody.shown, nobody.picked, nobody.iou) == (None, False, 0.0)
    poor = shown(np.where(np.arange(100)[:, None] < 40, people[1].mask(), 0))
    assert (poor.picked, poor.found, poor.iou) == (True, False, pytest.approx(0.25))


def test_errors_are_in_sizes_of_the_person(make_result) -> None:
    result = make_result(offset=4.0)
    np.testing.assert_allclose(result.errors, 4 / math.sqrt(800), rtol=1e-6)
    keypoints = result.annotation.keypoints.copy()
    keypoints[5, 2] = 0
    unlabelled = replace(result, annotation=replace(result.annotation, keypoints=keypoints))
    assert np.flatnonzero(np.isnan(unlabelled.errors)).tolist() == [5]


def test_without_labelled_keypoints_there_is_no_similarity(make_person) -> None:
    person = make_person(1, 20, labelled=False)
    result = judge(person, "box", (person,), 0, one(np.zeros((17, 2)), None))
    assert math.isnan(result.oks)


def test_closeness_is_the_iou_of_the_nearest_box(make_result) -> None:
    results = [make_result((0, 0, 0), referred, lefts=(20, 30, 150)) for referred in range(3)]
    assert [result.closeness for result in results] == pytest.approx([1 / 3, 1 / 3, 0])
    assert make_result((0.5,)).closeness == 0


def test_the_worst_come_first_and_once_per_image(make_result) -> None:
    bad, worse = make_result(overlaps=(0.2,), oks=0.1), make_result(overlaps=(0.1,), oks=0.1)
    other = make_result(overlaps=(0.9,), oks=math.nan, file_name="b.jpg")
    assert worst([other, bad, worse], 5) == [worse, other]
    assert worst([other, bad, worse], 1) == [worse]


def test_a_row_shows_prompt_and_both_bodies(drawn, rendered) -> None:
    record = drawn[0].annotations[0]
    shifted = np.roll(record.mask(), 3, axis=1)
    people = people_by_id(drawn[0].annotations)[record.image_id]
    instances = one(record.keypoints[:, :2], shifted)
    row = contact_row(judge(record, "box", *people, instances), rendered)
    x, y, w, h = record.bbox
    assert row.prompt.box.tolist() == pytest.approx([x, y, x + w, y + h])
    np.testing.assert_array_equal(row.prediction.mask, shifted.astype(bool))
    np.testing.assert_array_equal(row.annotation.mask, record.mask().astype(bool))
    assert row.oks == pytest.approx(1)


def test_a_network_is_asked_for_everybody_with_every_kind() -> None:
    config = compose_train(
        None,
        *TINY,
        "data=synthetic",
        "data.size=[96,96]",
        "data.eval_transform.size=96",
        "data.eval_transform.max_size=96",
        "data.val_scenes=2",
        "data.num_render_workers=1",
        "data.val_prompts=[point,box]",
    )
    torch.manual_seed(0)
    network, model_config = build_network(config)
    network.eval()
    data = build(config.data, tokenize=build_tokenizer(model_config.tokenizer))
    data.setup("validate")
    results = examine(network, data)
    assert [r.kind for r in results] == [k for k in ("point", "box") for _ in data.val_instances]
    for kind, loader in zip(data.val_prompts, data.val_dataloader(), strict=True):
        evaluator = RefHumanEvaluator(data.val_instances)
        for batch in loader:
            evaluator.update(batch.image_ids, detect(network, batch, 1))
        ious = [r.iou for r in results if r.kind == kind]
        assert np.mean(ious) == pytest.approx(evaluator.compute()["mIoU"], abs=1e-5)
