"""COCO average precision of poses, masks and boxes, by pycocotools."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from uniphd.data.annotations import ReferredPerson
from uniphd.structures import PERSON

CocoResult: TypeAlias = dict[str, Any]
"""One entry of a COCO results file."""

METRICS_OF_TASKS: dict[str, dict[str, int]] = {
    "keypoints": {
        "pose_AP": 0,
        "pose_AP50": 1,
        "pose_AP75": 2,
        "pose_APM": 3,
        "pose_APL": 4,
        "pose_AR": 5,
    },
    "segm": {"mask_AP": 0},
    "bbox": {"box_AP": 0},
}
"""Where each metric stands in COCOeval's summary of a task; of boxes and masks, of all areas."""

_ALL_AREAS = ([[0, 1e10]], ["all"])


def average_precision(
    people: Sequence[ReferredPerson], results: Mapping[str, Sequence[CocoResult]]
) -> dict[str, float]:
    """COCO metrics in [0, 1]; NaN where a task has no results entry or nobody to find.

    Args:
        people: what is annotated; every image id takes part, with or without results.
        results: entries of a COCO results file per task ("keypoints", "segm", "bbox").
    """
    annotated = _annotated(people)
    return evaluate_results(annotated, results, people[0].schema.sigmas if people else ())


def evaluate_results(
    annotated: COCO, results: Mapping[str, Sequence[CocoResult]], sigmas: Sequence[float]
) -> dict[str, float]:
    """The same of any ground truth.

    Args:
        annotated: see `ground_truth`.
        results: entries of a COCO results file per task ("keypoints", "segm", "bbox");
            pycocotools adds fields to them.
        sigmas: of the keypoints.
    """
    metrics: dict[str, float] = {}
    for task, positions in METRICS_OF_TASKS.items():
        stats = None
        if task in results:
            with _quietly():
                stats = _evaluate(annotated, list(results[task]), task, sigmas)
        for name, position in positions.items():
            # COCOeval says -1 where no annotation counts, for instance no medium person.
            known = stats is not None and stats[position] >= 0
            metrics[name] = float(stats[position]) if stats is not None and known else math.nan
    return metrics


def _quietly() -> contextlib.redirect_stdout[io.StringIO]:
    """Pycocotools reports by printing."""
    return contextlib.redirect_stdout(io.StringIO())


def _evaluate(
    annotated: COCO, results: list[CocoResult], task: str, sigmas: Sequence[float]
) -> Sequence[float]:
    evaluation = COCOeval(annotated, _detected(annotated, results), task)
    evaluation.params.kpt_oks_sigmas = np.array(sigmas)
    if task != "keypoints":
        evaluation.params.areaRng, evaluation.params.areaRngLbl = _ALL_AREAS
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    stats: Sequence[float] = evaluation.stats
    return stats


def _annotated(people: Sequence[ReferredPerson]) -> COCO:
    """Ground truth. Annotations are numbered from 1: COCOeval takes id 0 for "no match"."""
    annotations = [
        {
            "id": number,
            "image_id": person.image_id,
            "category_id": PERSON,
            "iscrowd": 0,
            "bbox": list(person.bbox),
            "area": person.area,
            "segmentation": person.segmentation,
            "keypoints": person.keypoints.flatten().tolist(),
            "num_keypoints": person.num_keypoints,
        }
        for number, person in enumerate(people, start=1)
    ]
    images = [
        {"id": person.image_id, "height": person.height, "width": person.width} for person in people
    ]
    return ground_truth(images, annotations)


def _detected(annotated: COCO, results: list[CocoResult]) -> COCO:
    """Results as pycocotools wants them; its `loadRes` fails on an empty list."""
    if not results:
        return ground_truth(annotated.dataset["images"], [])
    return annotated.loadRes(results)


def ground_truth(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> COCO:
    """Images and annotations of people as pycocotools takes them."""
    coco = COCO()
    coco.dataset = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": PERSON, "name": "person"}],
    }
    with _quietly():
        coco.createIndex()
    return coco
