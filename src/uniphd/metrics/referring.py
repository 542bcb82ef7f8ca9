"""Referring accuracy: does the best answer show the person meant, or another one beside them?

A record is one image id: a prompt for one person. The records of one image share its
`file_name`; records with the same mask and keypoints refer to the same person in different words.
Only images with two or more annotated people count, and a record without an answer is wrong.
"Others" are annotated people of the images whom no prompt under evaluation refers to.

Shapes: R records and P people of one image.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from uniphd.data.annotations import ReferredPerson
from uniphd.keypoints import NUM_KEYPOINTS
from uniphd.metrics.oks import keypoint_similarity

ACCURATE = 0.5
"""The overlap from which on a picked person counts as found."""


@dataclass(frozen=True)
class ImageInstances:
    """Who is annotated in an image and who is asked for.

    Attributes:
        records: the R prompts.
        people: the P people, each of them once.
        referred: (R,) int, the place in `people` of whom each record refers to.
    """

    records: tuple[ReferredPerson, ...]
    people: tuple[ReferredPerson, ...]
    referred: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Confusion:
    """How well the best answers to an image's records fit each of its people.

    Attributes:
        overlaps: (R, P) in [0, 1], IoU or OKS; 0 for a record without an answer.
        referred: (R,) int, the column of the person meant.
    """

    overlaps: npt.NDArray[np.float64]
    referred: npt.NDArray[np.intp]

    @property
    def own(self) -> npt.NDArray[np.float64]:
        """(R,) overlap with the person meant."""
        own: npt.NDArray[np.float64] = self.overlaps[np.arange(len(self.referred)), self.referred]
        return own

    @property
    def picked(self) -> npt.NDArray[np.bool_]:
        """(R,) whether the person meant is overlapped strictly more than anybody else."""
        others = self.overlaps.copy()
        others[np.arange(len(self.referred)), self.referred] = -math.inf
        picked: npt.NDArray[np.bool_] = self.own > others.max(axis=1)
        return picked

    @property
    def pairs(self) -> npt.NDArray[np.bool_]:
        """(R, R) which records refer to different people; every pair stands there twice."""
        pairs: npt.NDArray[np.bool_] = self.referred[:, None] != self.referred
        return pairs


def mask_referring(
    records: Sequence[ReferredPerson],
    masks: Mapping[int, str],
    others: Sequence[ReferredPerson] = (),
) -> dict[str, float]:
    """Referring accuracy by the IoU of masks; see `summarize_confusions`.

    Args:
        records: all that are under evaluation.
        masks: compressed run lengths of the best answer by image id, as large as the image.
        others: people whom nobody asks for.
    """
    images = [image for image in group_by_image(records, others) if len(image.people) > 1]
    return summarize_confusions([_mask_confusion(image, masks) for image in images])


def pose_referring(
    records: Sequence[ReferredPerson],
    keypoints: Mapping[int, npt.NDArray[np.float64]],
    others: Sequence[ReferredPerson] = (),
) -> dict[str, float]:
    """Referring accuracy by the OKS of poses, among the people with labelled keypoints.

    Args:
        records: all that are under evaluation.
        keypoints: (17, 2) or more columns of the best answer by image id.
        others: people whom nobody asks for.

    Returns:
        mean_OKS: over the records of people with labelled keypoints, also of those who are alone.
        pose_pick, pose_referring_acc, pose_swap: see `summarize_confusions`.
    """
    images = group_by_image(
        [record for record in records if record.num_keypoints],
        [person for person in others if person.num_keypoints],
    )
    confusions = [_pose_confusion(image, keypoints) for image in images]
    own = [value for confusion in confusions for value in confusion.own.tolist()]
    accuracy = summarize_confusions(confusions)
    return {
        "mean_OKS": math.fsum(own) / (len(own) or math.nan),
        **{f"pose_{name}": value for name, value in accuracy.items()},
    }


def summarize_confusions(images: Sequence[Confusion]) -> dict[str, float]:
    """Fractions over the images with at least two people; NaN where there is none.

    Returns:
        pick: share of records whose answer overlaps the person meant strictly more than anybody
            else.
        referring_acc: share of records with pick and an overlap of at least `ACCURATE`.
        swap: share of the pairs of people, each prompted in turn, where both are picked (pairs of
            records, where people are described in several ways; NaN where nobody is paired). An
            answer that does not depend on the prompt gets none of them.
    """
    shared = [image for image in images if image.overlaps.shape[1] > 1]
    samples = sum(len(image.referred) for image in shared) or math.nan
    pairs = sum(int(image.pairs.sum()) for image in shared) or math.nan
    picked = [image.picked for image in shared]
    accurate = [p & (image.own >= ACCURATE) for p, image in zip(picked, shared, strict=True)]
    both = [np.outer(p, p) & image.pairs for p, image in zip(picked, shared, strict=True)]
    return {
        "pick": sum(int(p.sum()) for p in picked) / samples,
        "referring_acc": sum(int(a.sum()) for a in accurate) / samples,
        "swap": sum(int(b.sum()) for b in both) / pairs,
    }


def group_by_image(
    records: Sequence[ReferredPerson], others: Sequence[ReferredPerson] = ()
) -> list[ImageInstances]:
    """Put the people of each image together and find out who is the same person."""
    groups: dict[Any, list[ReferredPerson]] = defaultdict(list)
    bystanders: dict[Any, list[ReferredPerson]] = defaultdict(list)
    for record in records:
        groups[record.file_name, record.size].append(record)
    for person in others:
        bystanders[person.file_name, person.size].append(person)
    return [_image_instances(group, bystanders[key]) for key, group in groups.items()]


def _image_instances(
    records: Sequence[ReferredPerson], others: Sequence[ReferredPerson]
) -> ImageInstances:
    people: dict[Any, ReferredPerson] = {}
    for person in (*records, *others):
        people.setdefault(_identity(person), person)
    places = {identity: place for place, identity in enumerate(people)}
    referred = np.array([places[_identity(record)] for record in records], dtype=np.intp)
    return ImageInstances(tuple(records), tuple(people.values()), referred)


def _identity(person: ReferredPerson) -> tuple[bytes, bytes]:
    return person.counts, person.keypoints.tobytes()


def _mask_confusion(image: ImageInstances, masks: Mapping[int, str]) -> Confusion:
    people = [person.segmentation for person in image.people]
    overlaps = np.zeros((len(image.records), len(people)))
    answered = [i for i, record in enumerate(image.records) if record.image_id in masks]
    if answered:
        answers = [
            {"size": list(record.size), "counts": masks[record.image_id]}
            for record in (image.records[i] for i in answered)
        ]
        overlaps[answered] = coco_mask.iou(answers, people, [False] * len(people))
    return Confusion(overlaps, image.referred)


def _pose_confusion(
    image: ImageInstances, keypoints: Mapping[int, npt.NDArray[np.float64]]
) -> Confusion:
    missed = np.full((NUM_KEYPOINTS, 2), np.nan)
    answers = [keypoints.get(record.image_id, missed)[:, :2] for record in image.records]
    overlaps = keypoint_similarity(
        np.stack(answers),
        np.stack([person.keypoints for person in image.people]),
        np.array([person.area for person in image.people]),
    )
    return Confusion(overlaps, image.referred)
