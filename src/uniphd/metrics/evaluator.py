"""RefHuman's evaluation protocol for one kind of prompt.

Pose, mask and box AP take the best 20 answers per image id; all other metrics take the best one.
An image id counts once, however often a sampler repeats it, and without an answer it counts as
missed. T answers per image. Beyond the protocol there are the mean OKS and the referring accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from torch import Tensor, distributed

from uniphd.data.annotations import ReferredPerson
from uniphd.data.masks import decode_segmentation
from uniphd.errors import AnnotationError
from uniphd.inference.postprocess import Answers
from uniphd.keypoints import NUM_KEYPOINTS
from uniphd.metrics.coco import CocoResult, average_precision
from uniphd.metrics.mask_iou import Overlap, mask_overlap, summarize_overlaps
from uniphd.metrics.pckh import pckh_counts
from uniphd.metrics.referring import mask_referring, pose_referring
from uniphd.structures import PERSON

MAX_ANSWERS = 20
"""Answers per image that AP looks at (COCO's limit for keypoints)."""


@dataclass(frozen=True)
class _ImageResult:
    """Answers for one image id, best first, small enough to send to the other processes.

    Attributes:
        scores: (T,).
        boxes: (T, 4) left, top, width, height.
        keypoints: (T, 17, 3) x, y and the probability of being visible.
        masks: run lengths per answer, or None without masks.
    """

    scores: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]
    keypoints: npt.NDArray[np.float64]
    masks: tuple[str, ...] | None


class RefHumanEvaluator:
    """Collects answers and computes all metrics of the protocol.

    Args:
        people: the annotated people to find; every image id once.
        others: annotated people of the same images who are not to be found; an answer that
            shows one of them is wrong for referring accuracy.
    """

    def __init__(
        self, people: Sequence[ReferredPerson], others: Sequence[ReferredPerson] = ()
    ) -> None:
        self._people = {person.image_id: person for person in people}
        self._others = tuple(others)
        self._results: dict[int, _ImageResult] = {}

    def update(self, image_id: int, answers: Answers) -> None:
        """Take the answers for one image id; those for an id seen before replace the former.

        Raises:
            AnnotationError: nobody is annotated for the id, or the masks are of another size than
                the annotation says.
        """
        person = self._people.get(image_id)
        if person is None:
            raise AnnotationError(
                f"image id {image_id} is not in the annotations under evaluation; evaluate on the "
                "file that the images were loaded with."
            )
        if answers.masks is not None and tuple(answers.masks.shape[-2:]) != person.size:
            height, width = answers.masks.shape[-2:]
            raise AnnotationError(
                f"image id {image_id} ({person.file_name}): the masks are {height} x {width} but "
                f"the annotation says {person.height} x {person.width}; correct its size."
            )
        self._results[image_id] = _to_result(answers)

    def synchronize(self) -> None:
        """Give every process the answers of all; a collective where processes work together."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        shares: list[dict[int, _ImageResult]] = [{}] * distributed.get_world_size()
        distributed.all_gather_object(shares, self._results)
        self._results = {image_id: result for share in shares for image_id, result in share.items()}

    def compute(self) -> dict[str, float]:
        """All metrics as fractions, NaN where undefined; synchronises the processes first.

        Masks' metrics are NaN for a model that gives none. The referring accuracy is NaN where no
        image has two or more people under evaluation.
        """
        self.synchronize()
        people = list(self._people.values())
        ap = average_precision(people, self.coco_results())
        correct, counted = np.sum([self._pckh(person) for person in people] or [(0, 0)], axis=0)
        overlaps = [self._overlap(person) for person in people] if self._has_masks else []
        mask_ap, box_ap = ap.pop("mask_AP"), ap.pop("box_AP")
        return {
            **ap,
            "PCKh@0.5": float(correct / counted) if counted else math.nan,
            **summarize_overlaps(overlaps),
            "mask_AP": mask_ap,
            "box_AP": box_ap,
            **self._referring(people),
        }

    def coco_results(self) -> dict[str, list[CocoResult]]:
        """What a COCO results file holds, by task: "keypoints", "bbox" and, with masks, "segm".

        Only this process' answers, unless `synchronize` or `compute` ran before.
        """
        tasks = ("keypoints", "segm", "bbox") if self._has_masks else ("keypoints", "bbox")
        results: dict[str, list[CocoResult]] = {task: [] for task in tasks}
        for image_id, result in sorted(self._results.items()):
            for i, score in enumerate(result.scores.tolist()):
                entry = {"image_id": image_id, "category_id": PERSON, "score": score}
                # COCO ignores the third number of a keypoint in results; we give the probability.
                keypoints = result.keypoints[i].flatten().tolist()
                results["keypoints"].append({**entry, "keypoints": keypoints})
                results["bbox"].append({**entry, "bbox": result.boxes[i].tolist()})
                if result.masks is not None:
                    mask = {"size": list(self._people[image_id].size), "counts": result.masks[i]}
                    results["segm"].append({**entry, "segmentation": mask})
        return results

    def reset(self) -> None:
        """Forget all answers."""
        self._results = {}

    @property
    def _has_masks(self) -> bool:
        return not self._results or any(r.masks is not None for r in self._results.values())

    def _referring(self, people: Sequence[ReferredPerson]) -> dict[str, float]:
        results = self._results.items()
        masks = {image_id: result.masks[0] for image_id, result in results if result.masks}
        poses = {
            image_id: result.keypoints[0] for image_id, result in results if len(result.scores)
        }
        return {
            **mask_referring(people if self._has_masks else [], masks, self._others),
            **pose_referring(people, poses, self._others),
        }

    def _pckh(self, person: ReferredPerson) -> tuple[int, int]:
        result = self._results.get(person.image_id)
        found = result is not None and len(result.scores) > 0
        missed = np.full((NUM_KEYPOINTS, 2), np.nan)
        best = result.keypoints[0] if result is not None and found else missed
        return pckh_counts(best, person.keypoints)

    def _overlap(self, person: ReferredPerson) -> Overlap:
        result = self._results.get(person.image_id)
        target = person.mask()
        if result is None or not result.masks:
            return Overlap(intersection=0, union=max(1, int(np.count_nonzero(target))))
        best = decode_segmentation(result.masks[0].encode("ascii"), person.size)
        return mask_overlap(best, target)


def _to_result(answers: Answers) -> _ImageResult:
    order = answers.scores.argsort(descending=True, stable=True)[:MAX_ANSWERS]
    corners = _to_numpy(answers.boxes[order])
    points = _to_numpy(answers.keypoints[order])
    visibility = _to_numpy(answers.visibility[order])
    return _ImageResult(
        scores=_to_numpy(answers.scores[order]),
        boxes=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        keypoints=np.concatenate([points, visibility[..., None]], axis=2),
        masks=None if answers.masks is None else _encode(answers.masks[order]),
    )


def _to_numpy(values: Tensor) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = values.detach().double().cpu().numpy()
    return array


def _encode(masks: Tensor) -> tuple[str, ...]:
    """COCO run lengths of (T, H, W) masks."""
    columns = np.asfortranarray(masks.permute(1, 2, 0).byte().cpu().numpy())
    return tuple(runs["counts"].decode("ascii") for runs in coco_mask.encode(columns))
