"""Poses of other keypoint sets are measured with their own sigmas."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.refhuman_folder import write_refhuman
from uniphd.data.annotations import load_annotations
from uniphd.keypoints import COCO17, SCHEMAS
from uniphd.metrics.evaluator import RefHumanEvaluator
from uniphd.metrics.pckh import pckh_counts
from uniphd.structures import Instances


@pytest.mark.parametrize("name", SCHEMAS)
def test_pose_metrics_are_pycocotools_with_the_sets_sigmas(name: str, tmp_path: Path) -> None:
    schema = SCHEMAS[name]
    path = write_refhuman(tmp_path, people=12, schema=schema) / "RefHuman_train.json"
    people = load_annotations(path, schema=schema).instances
    evaluator = RefHumanEvaluator(people)
    rng = np.random.default_rng(0)
    for person in people:
        count = 3
        noise = rng.normal(0, 2, (count, len(schema), 2))
        evaluator.update(
            [person.image_id],
            [
                Instances(
                    scores=torch.from_numpy(np.sort(rng.uniform(0, 1, count))[::-1].copy()),
                    boxes=torch.tensor([[0.0, 0.0, 20.0, 20.0]] * count),
                    keypoints=torch.from_numpy(person.keypoints[:, :2] + noise),
                    visibility=torch.ones(count, len(schema)),
                    masks=None,
                    queries=torch.arange(count),
                )
            ],
        )
    metrics = evaluator.compute()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        (tmp_path / "found.json").write_text(json.dumps(evaluator.coco_results()["keypoints"]))
        found = truth.loadRes(str(tmp_path / "found.json"))
        official = COCOeval(truth, found, "keypoints")
        official.params.kpt_oks_sigmas = np.array(schema.sigmas)
        official.evaluate()
        official.accumulate()
        official.summarize()
    assert 0 < metrics["pose_AP"] < 1
    assert metrics["pose_AP"] == pytest.approx(official.stats[0], abs=1e-12)
    best = [official.computeOks(person.image_id, 1)[0, 0] for person in people]
    assert metrics["mean_OKS"] == pytest.approx(np.mean(best), abs=1e-12)
    assert math.isnan(metrics["PCKh@0.5"]) == (schema.head_pair is None)


def test_without_a_head_nothing_counts() -> None:
    person = np.ones((len(COCO17), 3))
    assert pckh_counts(person, person, None) == (0, 0)
    assert pckh_counts(person, person, COCO17.head) == (17, 17)
