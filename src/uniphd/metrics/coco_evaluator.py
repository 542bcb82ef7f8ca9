"""COCO's protocol: the detections for all people of an image, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import distributed, nn
from torchmetrics import Metric

from uniphd.data.coco_file import CocoFile
from uniphd.inference.detect import to_cpu
from uniphd.metrics.coco import METRICS_OF_TASKS, CocoResult, evaluate_results, ground_truth
from uniphd.metrics.stored import MAX_DETECTIONS, StoredDetections, store_detections
from uniphd.structures import Instances, Size

READINGS: Mapping[str, int] = {"best": 1, "all": MAX_DETECTIONS}
"""How many detections of every prompt are put together, by the name of the reading."""

TASKS: Mapping[str, int] = {"keypoints": 20, "segm": 100, "bbox": 100}
"""The tasks of COCO, and how many detections per image pycocotools looks at."""


class CocoEvaluator(Metric):
    """Collects the detections of images and evaluates them as pycocotools does.

    An image counts once, however often a sampler repeats it.

    Args:
        file: whose ground truth to evaluate against.
    """

    full_state_update = False
    results: list[tuple[int, tuple[StoredDetections, ...]]]

    def __init__(self, file: CocoFile) -> None:
        super().__init__()
        self._file = file
        self._sizes: dict[int, Size] = {e["id"]: (e["height"], e["width"]) for e in file.images}
        self.add_state("results", default=[], dist_reduce_fx=None)

    @property
    def image_ids(self) -> set[int]:
        """The images of which there are detections."""
        return {image_id for image_id, _ in self.results}

    def update(self, image_id: int, detections: Sequence[Instances]) -> None:
        """Take the detections for an image's prompts; those taken before are replaced.

        Args:
            image_id: of the image.
            detections: one per prompt, in a fixed order: it decides between equal scores.
        """
        stored = tuple(map(store_detections, to_cpu(detections)))
        self.results.append((image_id, stored))

    def coco_results(self, reading: str, task: str) -> Iterator[CocoResult]:
        """Entries of a COCO results file: the best of an image, as many as pycocotools looks at.

        Only this process's detections, unless called within `sync_context()`.

        Args:
            reading: of `READINGS`.
            task: of `TASKS`.
        """
        for image_id, prompts in sorted(dict(self.results).items()):
            per_prompt = [(one, i) for one in prompts for i in range(len(one))[: READINGS[reading]]]
            scores = np.array([one.scores[place] for one, place in per_prompt])
            for index in np.argsort(-scores, kind="stable")[: TASKS[task]].tolist():
                one, place = per_prompt[index]
                yield one.coco_result(task, place, image_id, self._sizes[image_id])

    @property
    def tasks(self) -> tuple[str, ...]:
        """What there are detections of: no masks from a network without mask head."""
        without = any(one.masks is None for _, prompts in self.results for one in prompts)
        return tuple(task for task in TASKS if not (without and task == "segm"))

    def compute_reading(self, reading: str, left_out: set[int] | None = None) -> dict[str, float]:
        """Metrics in [0, 1] of a reading; NaN where undefined.

        Args:
            reading: of `READINGS`.
            left_out: ids of images that are not evaluated.
        """
        left_out = left_out or set()
        images = [entry for entry in self._file.images if entry["id"] not in left_out]
        # Copies, because pycocotools adds fields.
        annotations = [dict(e) for e in self._file.annotations if e["image_id"] not in left_out]
        annotated = ground_truth(images, annotations)
        metrics: dict[str, float] = {}
        for task in TASKS:  # one at a time: the entries of a task are large
            entries = {task: list(self.coco_results(reading, task))} if task in self.tasks else {}
            found = evaluate_results(annotated, entries, self._file.schema.sigmas)
            metrics |= {name: found[name] for name in METRICS_OF_TASKS[task]}
        return metrics

    def compute(self) -> dict[str, dict[str, float]]:
        """The metrics by reading; a collective among processes."""
        return {reading: self.compute_reading(reading) for reading in READINGS}

    def _sync_dist(
        self, dist_sync_fn: Callable[..., Any] | None = None, process_group: Any = None
    ) -> None:
        """Gather the results of all processes as pickled objects: run lengths are no tensors."""
        shares: list[list[Any]] = [[]] * distributed.get_world_size(process_group)
        distributed.all_gather_object(shares, self.results, process_group)
        self.results = [result for share in shares for result in share]

    def _apply(self, fn: Callable[..., Any]) -> nn.Module:  # type: ignore[override]
        """Leave the results, which are no tensors, where they are."""
        return super()._apply(fn, exclude_state=("results",))
