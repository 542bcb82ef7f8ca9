"""Referring accuracy: does the best detection show the referred person, or another one?

An annotation is one image id: a prompt for one person. The annotations of one image share its
`file_name`; several may refer to the same person in different words (`uniphd.data.identity`), and
each is compared with its own mask and keypoints.
Only images with two or more annotated people count, and an annotation without a detection is wrong.
Distractors are annotated people of the images to whom no prompt under evaluation refers.

Shapes: R annotations and P people of one image.
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
from uniphd.data.identity import person_places
from uniphd.metrics.oks import pairwise_oks

ACCURATE = 0.5
"""The overlap from which on a picked person counts as found."""


@dataclass(frozen=True)
class AnnotatedImage:
    """Who is annotated in an image, and to whom the prompts refer.

    Attributes:
        annotations: the R prompts.
        people: the P people, each of them once, by the first annotation; distractors included.
        referred: (R,) int, the place in `people` of the person that each annotation refers to.
    """

    annotations: tuple[ReferredPerson, ...]
    people: tuple[ReferredPerson, ...]
    referred: npt.NDArray[np.intp]

    @property
    def restated(self) -> list[int]:
        """Annotations of people who are in `people` by another one."""
        pairs = zip(self.annotations, self.referred, strict=True)
        return [row for row, (a, place) in enumerate(pairs) if self.people[place] is not a]

    def people_by(self, row: int) -> tuple[ReferredPerson, ...]:
        """`people`, the referred person by the annotation of this row."""
        place = int(self.referred[row])
        return (*self.people[:place], self.annotations[row], *self.people[place + 1 :])


@dataclass(frozen=True)
class Confusion:
    """How well the best detections for an image's annotations fit each of its people.

    Attributes:
        overlaps: (R, P) in [0, 1], IoU or OKS; 0 for an annotation without a detection.
        referred: (R,) int, the column of the referred person.
    """

    overlaps: npt.NDArray[np.float64]
    referred: npt.NDArray[np.intp]

    @property
    def own(self) -> npt.NDArray[np.float64]:
        """(R,) overlap with the referred person."""
        own: npt.NDArray[np.float64] = self.overlaps[np.arange(len(self.referred)), self.referred]
        return own

    @property
    def picked(self) -> npt.NDArray[np.bool_]:
        """(R,) whether the referred person is the one that is shown."""
        picked: npt.NDArray[np.bool_] = shown_person(self.overlaps) == self.referred
        return picked

    @property
    def pairs(self) -> npt.NDArray[np.bool_]:
        """(R, R) which annotations refer to different people; every pair stands there twice."""
        pairs: npt.NDArray[np.bool_] = self.referred[:, None] != self.referred
        return pairs


def shown_person(overlaps: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Whom a detection shows: the person it overlaps strictly more than anybody else.

    This is the one rule by which metrics, images and the analysis of failures decide whether the
    referred person was picked. How much the person is overlapped does not matter to it.

    Args:
        overlaps: (..., P) IoU or OKS with every person of the image, at least one.

    Returns:
        (...) the place of the person; -1 where nobody is overlapped, or two people equally.
    """
    most = overlaps.max(axis=-1, keepdims=True)
    alone = (overlaps == most).sum(axis=-1) == 1
    shown: npt.NDArray[np.intp] = np.where(alone & (most[..., 0] > 0), overlaps.argmax(axis=-1), -1)
    return shown


def mask_referring(
    annotations: Sequence[ReferredPerson],
    masks: Mapping[int, str],
    distractors: Sequence[ReferredPerson] = (),
) -> dict[str, float]:
    """Referring accuracy by the IoU of masks; see `summarize_confusions`.

    Args:
        annotations: all that are under evaluation.
        masks: compressed run lengths of the best detection by image id, as large as the image.
        distractors: people of the same images to whom no prompt refers.
    """
    images = [i for i in group_by_image(annotations, distractors) if len(i.people) > 1]
    return summarize_confusions([_mask_confusion(image, masks) for image in images])


def pose_referring(
    annotations: Sequence[ReferredPerson],
    keypoints: Mapping[int, npt.NDArray[np.float64]],
    distractors: Sequence[ReferredPerson] = (),
) -> dict[str, float]:
    """Referring accuracy by the OKS of poses, among the people with labelled keypoints.

    Args:
        annotations: all that are under evaluation.
        keypoints: (K, 2) or more columns of the best detection by image id.
        distractors: people of the same images to whom no prompt refers.

    Returns:
        mean_OKS: over the people with labelled keypoints, also those who are alone.
        pose_pick, pose_referring_acc, pose_swap: see `summarize_confusions`.
    """
    images = group_by_image(
        [person for person in annotations if person.num_keypoints],
        [person for person in distractors if person.num_keypoints],
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
        pick: share of annotations whose detection shows the referred person, see `shown_person`.
        referring_acc: share of annotations with pick and an overlap of at least `ACCURATE`.
        swap: share of the pairs of people, each prompted in turn, where both are picked (pairs of
            annotations, where people are described in several ways; NaN where nobody is paired).
            A network that ignores the prompt gets none of them.
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
    annotations: Sequence[ReferredPerson], distractors: Sequence[ReferredPerson] = ()
) -> list[AnnotatedImage]:
    """Put the people of each image together and find out who is the same person."""
    groups: dict[Any, list[ReferredPerson]] = defaultdict(list)
    beside: dict[Any, list[ReferredPerson]] = defaultdict(list)
    for person in annotations:
        groups[person.file_name, person.size].append(person)
    for person in distractors:
        beside[person.file_name, person.size].append(person)
    return [_annotated_image(group, beside[key]) for key, group in groups.items()]


def _annotated_image(
    annotations: Sequence[ReferredPerson], distractors: Sequence[ReferredPerson]
) -> AnnotatedImage:
    everybody = (*annotations, *distractors)
    firsts, places = np.unique(person_places(everybody), return_inverse=True)
    people = tuple(everybody[first] for first in firsts)
    return AnnotatedImage(tuple(annotations), people, places[: len(annotations)])


def _mask_confusion(image: AnnotatedImage, masks: Mapping[int, str]) -> Confusion:
    people = [person.segmentation for person in image.people]
    overlaps = np.zeros((len(image.annotations), len(people)))
    found = {
        row: {"size": list(annotation.size), "counts": masks[annotation.image_id]}
        for row, annotation in enumerate(image.annotations)
        if annotation.image_id in masks
    }
    if found:
        overlaps[list(found)] = coco_mask.iou(list(found.values()), people, [False] * len(people))
    for row in image.restated:
        if row in found:
            own = image.annotations[row].segmentation
            overlaps[row, image.referred[row]] = coco_mask.iou([found[row]], [own], [False])[0, 0]
    return Confusion(overlaps, image.referred)


def _pose_confusion(
    image: AnnotatedImage, keypoints: Mapping[int, npt.NDArray[np.float64]]
) -> Confusion:
    missed = np.full((len(image.people[0].schema), 2), np.nan)
    poses = np.stack([keypoints.get(a.image_id, missed)[:, :2] for a in image.annotations])
    overlaps = _oks(poses, image.people)
    rows = image.restated
    if rows:
        own = _oks(poses[rows], [image.annotations[row] for row in rows])
        overlaps[rows, image.referred[rows]] = own.diagonal()
    return Confusion(overlaps, image.referred)


def _oks(
    poses: npt.NDArray[np.float64], people: Sequence[ReferredPerson]
) -> npt.NDArray[np.float64]:
    """(R, P) of poses (R, K, 2)."""
    return pairwise_oks(
        poses,
        np.stack([person.keypoints for person in people]),
        np.array([person.area for person in people]),
        people[0].schema.sigmas,
    )
