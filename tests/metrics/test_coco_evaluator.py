"""COCO's protocol against pycocotools itself, on real annotations put back into COCO's form."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.data.coco_images import write_mini
from uniphd.data.annotations import ReferredPerson
from uniphd.data.coco_file import CocoFile, read_coco
from uniphd.metrics.coco_evaluator import READINGS, TASKS, CocoEvaluator
from uniphd.metrics.report import write_results
from uniphd.structures import Instances


@pytest.fixture
def coco(refhuman_mini: Path, tmp_path: Path) -> CocoFile:
    write_mini(refhuman_mini, tmp_path)
    return read_coco(tmp_path / "coco.json")


def instances(person: ReferredPerson, scores: Sequence[float], noise: float) -> Instances:
    """The annotation, moved by ever more noise; the masks are rolled."""
    count = len(scores)
    random = torch.Generator().manual_seed(person.annotation_id)
    moves = noise * torch.arange(1, count + 1)[:, None, None] ** 0.5
    shifts = (moves * torch.randn(count, 17, 2, generator=random)).float()
    x, y, w, h = person.bbox
    mask = torch.from_numpy(person.mask()).bool()
    return Instances(
        scores=torch.tensor(scores),
        boxes=torch.tensor([x, y, x + w, y + h]) + shifts[:, :2].flatten(1),
        keypoints=torch.from_numpy(person.keypoints)[None, :, :2] + shifts,
        visibility=torch.full((count, 17), 0.5),
        masks=torch.stack([mask.roll(int(shift), 1) for shift in shifts[:, 0, 0]]),
        queries=torch.arange(count),
    )


def by_image(file: CocoFile) -> dict[int, list[ReferredPerson]]:
    images: dict[int, list[ReferredPerson]] = {}
    for person in file.people:
        images.setdefault(person.image_id, []).append(person)
    return images


def pycocotools(annotations: Path, results: list[dict[str, Any]], task: str) -> list[float]:
    """COCOeval as its demo has it, on the file as it is."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(results), task)
        evaluation.params.catIds = [1]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def test_exact_annotations_are_perfect(refhuman_mini: Path, tmp_path: Path) -> None:
    """Without the two people of whom no prompt can be made; those without keypoints are asked.

    pycocotools itself never finds a person with the id 0.
    """
    content = write_mini(refhuman_mini, tmp_path)
    content["annotations"] = [e for e in content["annotations"] if e["id"] not in (77, 78)]
    content["annotations"][0]["id"] = 0
    (tmp_path / "coco.json").write_text(json.dumps(content))
    file = read_coco(tmp_path / "coco.json")
    evaluator = CocoEvaluator(file)
    for image_id, people in by_image(file).items():
        evaluator.update(image_id, [instances(person, [0.9], 0) for person in people])
    metrics = evaluator.compute()["best"]
    assert {k: v for k, v in metrics.items() if not np.isnan(v)} == pytest.approx(
        dict.fromkeys(metrics, 1.0), abs=1e-12
    )


def test_noisy_permuted_detections_give_the_numbers_of_pycocotools(
    coco: CocoFile, tmp_path: Path
) -> None:
    """The results that pycocotools gets here are put together without our code."""
    random = np.random.default_rng(0)
    evaluator = CocoEvaluator(coco)
    expected: dict[tuple[str, str], list[dict[str, Any]]] = {
        (reading, task): [] for reading in READINGS for task in TASKS
    }
    images = list(by_image(coco).items())
    random.shuffle(images)  # type: ignore[arg-type]
    for image_id, people in images:
        asked = [people[i] for i in random.permutation(len(people))]  # everybody is mistaken
        scores = np.sort(random.uniform(0.05, 1, (len(people), 20)).round(1))[:, ::-1].copy()
        found = [instances(p, s.tolist(), 6) for p, s in zip(asked, scores, strict=True)]
        evaluator.update(image_id, found)
        for (reading, task), entries in expected.items():
            for one in found:
                for i in range(1 if reading == "best" else 20):
                    entries.append(_entry(one, i, image_id, task))
    metrics = evaluator.compute()
    names = ["pose_AP", "pose_AP50", "pose_AP75", "pose_APM", "pose_APL", "pose_AR"]
    for reading in READINGS:
        stats = pycocotools(tmp_path / "coco.json", expected[reading, "keypoints"], "keypoints")
        assert [metrics[reading][name] for name in names] == stats[:6]
        assert 0.05 < stats[0] < 0.95
        for task, name in (("segm", "mask_AP"), ("bbox", "box_AP")):
            stats = pycocotools(tmp_path / "coco.json", expected[reading, task], task)
            assert metrics[reading][name] == stats[0]
            assert 0.01 < stats[0] < 0.95
    assert metrics["all"]["pose_AP"] != metrics["best"]["pose_AP"]


def _entry(found: Instances, place: int, image_id: int, task: str) -> dict[str, Any]:
    entry = {"image_id": image_id, "category_id": 1, "score": float(found.scores[place])}
    if task == "keypoints":
        pose = torch.cat([found.keypoints[place], torch.ones(17, 1)], 1)
        return {**entry, "keypoints": pose.double().flatten().tolist()}
    if task == "bbox":
        x1, y1, x2, y2 = found.boxes[place].double().tolist()
        return {**entry, "bbox": [x1, y1, x2 - x1, y2 - y1]}
    assert found.masks is not None
    runs = coco_mask.encode(np.asfortranarray(found.masks[place].numpy(), dtype=np.uint8))
    return {**entry, "segmentation": runs}


def test_written_results_are_what_pycocotools_evaluates(coco: CocoFile, tmp_path: Path) -> None:
    evaluator = CocoEvaluator(coco)
    for image_id, people in by_image(coco).items():
        scores = np.linspace(0.9, 0.1, 20).tolist()
        evaluator.update(image_id, [instances(person, scores, 4) for person in people])
    for reading in READINGS:
        metrics = evaluator.compute_reading(reading)
        for task, name in (("keypoints", "pose_AP"), ("segm", "mask_AP"), ("bbox", "box_AP")):
            path = tmp_path / f"{reading}_{task}.json"
            write_results(path, evaluator.coco_results(reading, task))
            entries = json.loads(path.read_text())
            most = max(sum(e["image_id"] == i for e in entries) for i in evaluator.image_ids)
            assert most == (7 if reading == "best" else TASKS[task])
            assert pycocotools(tmp_path / "coco.json", entries, task)[0] == metrics[name]


def test_a_repeated_image_counts_once_and_images_can_be_left_out(coco: CocoFile) -> None:
    once, twice, half = CocoEvaluator(coco), CocoEvaluator(coco), CocoEvaluator(coco)
    images = by_image(coco)
    for place, (image_id, people) in enumerate(images.items()):
        found = [instances(person, [0.9], 5) for person in people]
        once.update(image_id, found)
        twice.update(image_id, found)
        twice.update(image_id, found)
        if place % 2:
            half.update(image_id, found)
    assert repr(once.compute()) == repr(twice.compute())
    left_out = set(images) - half.image_ids
    assert half.compute_reading("best", left_out)["pose_AR"] > half.compute()["best"]["pose_AR"]


def test_nothing_found_is_nothing_right(coco: CocoFile) -> None:
    evaluator = CocoEvaluator(coco)
    assert evaluator.compute_reading("best")["pose_AP"] == 0.0
    assert evaluator.compute_reading("all")["mask_AP"] == 0.0
