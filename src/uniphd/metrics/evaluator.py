"""RefHuman's evaluation protocol for one kind of prompt; `METRICS` lists what it measures.

Pose, mask and box AP take the best 20 detections per image id; all other metrics take the best one.
An image id counts once, however often a sampler repeats it, and without a detection it counts as
missed, unless the evaluation is of those who were asked for. T detections per image id, K
keypoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from torch import distributed, nn
from torchmetrics import Metric

from uniphd.data.annotations import ReferredPerson
from uniphd.errors import AnnotationError
from uniphd.inference.detect import to_cpu
from uniphd.metrics.coco import CocoResult, average_precision
from uniphd.metrics.mask_iou import Overlap, mask_overlap, summarize_overlaps
from uniphd.metrics.pckh import pckh_counts
from uniphd.metrics.referring import mask_referring, pose_referring
from uniphd.metrics.stored import StoredDetections, store_detections
from uniphd.structures import Instances

METRICS: Mapping[str, str] = {
    "pose_AP": "COCO's average precision of poses, by OKS",
    "pose_AP50": "pose_AP at an OKS of 0.50",
    "pose_AP75": "pose_AP at an OKS of 0.75",
    "pose_APM": "pose_AP of medium people, 32² to 96² pixels",
    "pose_APL": "pose_AP of large people, above 96² pixels",
    "pose_AR": "COCO's average recall of poses",
    "PCKh@0.5": "share of labelled keypoints that are off by at most half the head's size",
    "oIoU": "overall IoU of masks: sum of intersections over sum of unions",
    "mIoU": "mean IoU of masks",
    "P@0.5": "share of masks with an IoU above 0.5",
    "P@0.6": "share of masks with an IoU above 0.6",
    "P@0.7": "share of masks with an IoU above 0.7",
    "P@0.8": "share of masks with an IoU above 0.8",
    "P@0.9": "share of masks with an IoU above 0.9",
    "mask_AP": "COCO's average precision of masks",
    "box_AP": "COCO's average precision of boxes",
    "pick": "share of masks that overlap the referred person strictly more than anybody else; this "
    "and the following, but mean_OKS, of images with two or more annotated people",
    "referring_acc": "share of masks with pick and an IoU of at least 0.5",
    "swap": "share of pairs of people of an image, each prompted in turn, with pick for both",
    "mean_OKS": "mean OKS of all people with labelled keypoints",
    "pose_pick": "pick by OKS instead of the masks' IoU",
    "pose_referring_acc": "referring_acc by OKS",
    "pose_swap": "swap by OKS",
}
"""Every metric in its order, and what it measures; all are fractions."""


class RefHumanEvaluator(Metric):
    """Collects detections and computes all `METRICS`.

    Args:
        annotations: the people to find; every image id once.
        distractors: annotated people of the same images who are not to be found; a detection that
            shows one of them is wrong for referring accuracy.
        only_asked: evaluate the people whose image ids `update` is given; the others are
            distractors. For a validation that ends early.

    Attributes:
        counted: how many people the last `compute` was of.
    """

    full_state_update = False
    results: list[tuple[int, StoredDetections]]

    def __init__(
        self,
        annotations: Sequence[ReferredPerson],
        distractors: Sequence[ReferredPerson] = (),
        only_asked: bool = False,
    ) -> None:
        super().__init__()
        self._annotations = {person.image_id: person for person in annotations}
        self._distractors = tuple(distractors)
        self._only_asked = only_asked
        self.counted = 0
        self.add_state("results", default=[], dist_reduce_fx=None)

    def update(self, image_ids: Sequence[int], detections: Sequence[Instances]) -> None:
        """Take the detections of a batch; those for an id seen before replace the former.

        Detections are ordered by score; equal scores keep their order.

        Args:
            image_ids: one per prompt.
            detections: one per prompt.

        Raises:
            AnnotationError: nobody is annotated for an id, or the masks are of another size than
                the annotation says.
        """
        for image_id, instances in zip(image_ids, to_cpu(detections), strict=True):
            self._refuse_foreign(image_id, instances)
            self.results.append((image_id, store_detections(instances)))

    def compute(self) -> dict[str, float]:
        """All metrics as fractions, NaN where undefined; a collective among processes.

        Masks' metrics are NaN for a model that gives none. The referring accuracy is NaN where no
        image has two or more people under evaluation.
        """
        results = dict(self.results)
        asked = results if self._only_asked else self._annotations
        people = [person for person in self._annotations.values() if person.image_id in asked]
        self.counted = len(people)
        ap = average_precision(people, self.coco_results())
        correct, counted = np.sum([_pckh(person, results) for person in people] or [(0, 0)], axis=0)
        overlaps = [_overlap(person, results) for person in people] if self._has_masks else []
        metrics = {
            **ap,
            "PCKh@0.5": float(correct / counted) if counted else math.nan,
            **summarize_overlaps(overlaps),
            **self._referring(people, results),
        }
        return {name: metrics[name] for name in METRICS}

    def coco_results(self) -> dict[str, list[CocoResult]]:
        """What a COCO results file holds, by task: "keypoints", "bbox" and, with masks, "segm".

        Only this process's detections, unless called within `sync_context()`.
        """
        tasks = ("keypoints", "segm", "bbox") if self._has_masks else ("keypoints", "bbox")
        entries: dict[str, list[CocoResult]] = {task: [] for task in tasks}
        for image_id, result in sorted(dict(self.results).items()):
            size = self._annotations[image_id].size
            for task, listed in entries.items():
                places = range(len(result))
                listed += [result.coco_result(task, place, image_id, size) for place in places]
        return entries

    @property
    def _has_masks(self) -> bool:
        return not self.results or any(result.masks is not None for _, result in self.results)

    def _refuse_foreign(self, image_id: int, instances: Instances) -> None:
        person = self._annotations.get(image_id)
        if person is None:
            raise AnnotationError(
                f"image id {image_id} is not in the annotations under evaluation; evaluate on the "
                "file that the images were loaded with."
            )
        if instances.masks is not None and tuple(instances.masks.shape[-2:]) != person.size:
            height, width = instances.masks.shape[-2:]
            raise AnnotationError(
                f"image id {image_id} ({person.file_name}): the masks are {height} x {width} but "
                f"the annotation says {person.height} x {person.width}; correct its size."
            )

    def _referring(
        self, people: Sequence[ReferredPerson], results: Mapping[int, StoredDetections]
    ) -> dict[str, float]:
        found = {image_id: result for image_id, result in results.items() if len(result.scores)}
        masks = {image_id: result.masks[0] for image_id, result in found.items() if result.masks}
        poses = {image_id: result.keypoints[0] for image_id, result in found.items()}
        asked = {person.image_id for person in people}
        others = [p for image_id, p in self._annotations.items() if image_id not in asked]
        distractors = (*self._distractors, *others)
        return {
            **mask_referring(people if self._has_masks else [], masks, distractors),
            **pose_referring(people, poses, distractors),
        }

    def _sync_dist(
        self, dist_sync_fn: Callable[..., Any] | None = None, process_group: Any = None
    ) -> None:
        """Gather the results of all processes as pickled objects: run lengths are no tensors."""
        processes = distributed.get_world_size(process_group)
        shares: list[list[tuple[int, StoredDetections]]] = [[]] * processes
        distributed.all_gather_object(shares, self.results, process_group)
        self.results = [result for share in shares for result in share]

    def _apply(self, fn: Callable[..., Any]) -> nn.Module:  # type: ignore[override]
        """Leave the results, which are no tensors, where they are."""
        return super()._apply(fn, exclude_state=("results",))


def _pckh(person: ReferredPerson, results: Mapping[int, StoredDetections]) -> tuple[int, int]:
    result = results.get(person.image_id)
    missed = np.full((len(person.keypoints), 2), np.nan)
    found = result is not None and len(result.scores) > 0
    best = result.keypoints[0] if result and found else missed
    return pckh_counts(best, person.keypoints, person.schema.head)


def _overlap(person: ReferredPerson, results: Mapping[int, StoredDetections]) -> Overlap:
    result = results.get(person.image_id)
    if result is None or not result.masks:
        return Overlap(intersection=0, union=max(1, int(coco_mask.area(person.segmentation))))
    best = {"size": list(person.size), "counts": result.masks[0]}
    return mask_overlap(best, person.segmentation)
