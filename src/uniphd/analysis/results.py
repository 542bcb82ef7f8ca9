"""Detections judged one by one: how good is each of them, and whom does it show?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from uniphd.data.annotations import ReferredPerson
from uniphd.data.masks import decode_segmentation
from uniphd.data.sample import annotated_person
from uniphd.inference.detect import detect, to_cpu
from uniphd.metrics.oks import pairwise_oks
from uniphd.metrics.referring import ACCURATE, group_by_image, shown_person
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import FixedPrompt
from uniphd.structures import Instances
from uniphd.visualization.contact_sheet import Body, Row

if TYPE_CHECKING:
    from uniphd.data.loaders import ReferringDataModule


VISIBLE = 0.5
"""The probability above which a keypoint is drawn as visible."""


@dataclass(frozen=True)
class Detection:
    """A detection for one prompt.

    Attributes:
        score: its confidence.
        keypoints: (K, 2) in pixels of the image.
        visible: (K,) bool, what it calls visible.
        counts: its mask as compressed run lengths, as large as the image.
    """

    score: float
    keypoints: npt.NDArray[np.float64]
    visible: npt.NDArray[np.bool_]
    counts: bytes


@dataclass(frozen=True)
class Result:
    """The best detection for one prompt, compared with the annotations of the image.

    Attributes:
        annotation: that the prompt comes from.
        kind: of the prompt.
        people: all that are annotated in the image, each of them once.
        referred: the place in `people` of the referred person.
        score: the detection's confidence.
        keypoints: (K, 2) the detection's, in pixels of the image.
        visible: (K,) bool, what the detection calls visible.
        counts: the detection's mask as compressed run lengths.
        overlaps: (people,) IoU of the detection's mask with everybody's.
        oks: object keypoint similarity with the referred person; NaN without labelled keypoints.
    """

    annotation: ReferredPerson
    kind: str
    people: tuple[ReferredPerson, ...]
    referred: int
    score: float
    keypoints: npt.NDArray[np.float64]
    visible: npt.NDArray[np.bool_]
    counts: bytes
    overlaps: npt.NDArray[np.float64]
    oks: float

    @property
    def iou(self) -> float:
        """Mask IoU with the referred person."""
        return float(self.overlaps[self.referred])

    @property
    def shown(self) -> int | None:
        """The place in `people` of whom the mask shows, by `shown_person`; None for nobody."""
        place = int(shown_person(self.overlaps))
        return None if place < 0 else place

    @property
    def picked(self) -> bool:
        """Whether the mask shows the referred person; the metric `pick`."""
        return self.shown == self.referred

    @property
    def found(self) -> bool:
        """Whether it does so with an IoU of at least one half; the metric `referring_acc`."""
        return self.picked and self.iou >= ACCURATE

    @property
    def quality(self) -> float:
        """IoU plus OKS, from 0 to 2, by which results are ordered; unknown OKS counts as 0."""
        return self.iou + float(np.nan_to_num(self.oks))

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """(K,) distance of every keypoint over the person's size; NaN where it is not labelled.

        The size is the square root of the mask's area, as in the object keypoint similarity.
        """
        truth = self.annotation.keypoints.astype(np.float64)
        distance = np.linalg.norm(self.keypoints - truth[:, :2], axis=1)
        size = math.sqrt(max(self.annotation.area, 1.0))
        errors: npt.NDArray[np.float64] = np.where(truth[:, 2] > 0, distance / size, np.nan)
        return errors

    @property
    def closeness(self) -> float:
        """The largest IoU of the person's box with somebody else's; 0 for who is alone."""
        boxes = np.array([person.bbox for person in self.people], dtype=np.float64)
        overlaps = coco_mask.iou(boxes[[self.referred]], boxes, [False] * len(boxes))[0]
        return float(np.delete(overlaps, self.referred).max(initial=0.0))


def judge(
    annotation: ReferredPerson,
    kind: str,
    people: tuple[ReferredPerson, ...],
    referred: int,
    instances: Instances,
) -> Result:
    """Compare the best detection for one prompt with everybody in the image.

    Args:
        annotation: that the prompt comes from.
        kind: of the prompt.
        people: all that are annotated in the image.
        referred: the place in `people` of the referred person.
        instances: at least one, on the CPU. Without masks they show nobody.
    """
    mask = np.zeros(annotation.size, dtype=np.uint8)
    if instances.masks is not None:
        mask = instances.masks[0].byte().numpy()
    detection = Detection(
        score=float(instances.scores[0]),
        keypoints=instances.keypoints[0].double().numpy(),
        visible=(instances.visibility[0] > VISIBLE).numpy(),
        counts=bytes(coco_mask.encode(np.asfortranarray(mask))["counts"]),
    )
    return judge_detection(annotation, kind, people, referred, detection)


def judge_detection(
    annotation: ReferredPerson,
    kind: str,
    people: tuple[ReferredPerson, ...],
    referred: int,
    detection: Detection,
) -> Result:
    """Compare a detection with everybody in the image; see `judge`."""
    runs = {"size": list(annotation.size), "counts": detection.counts}
    masks = [person.segmentation for person in people]
    similarity = pairwise_oks(
        detection.keypoints[None],
        annotation.keypoints[None],
        np.array([annotation.area]),
        annotation.schema.sigmas,
    )
    return Result(
        annotation=annotation,
        kind=kind,
        people=people,
        referred=referred,
        score=detection.score,
        keypoints=detection.keypoints,
        visible=detection.visible,
        counts=detection.counts,
        overlaps=coco_mask.iou([runs], masks, [False] * len(masks))[0],
        oks=float(similarity[0, 0]) if annotation.num_keypoints else math.nan,
    )


def people_by_id(
    annotations: Sequence[ReferredPerson], distractors: Sequence[ReferredPerson] = ()
) -> dict[int, tuple[tuple[ReferredPerson, ...], int]]:
    """By image id: everybody in the image, and the place of the referred person among them.

    Args:
        annotations: the referred people.
        distractors: people of the same images to whom no prompt refers.
    """
    return {
        annotation.image_id: (image.people_by(row), int(image.referred[row]))
        for image in group_by_image(annotations, distractors)
        for row, annotation in enumerate(image.annotations)
    }


def examine(model: UniPHD, data: ReferringDataModule) -> list[Result]:
    """Prompt a network for everybody that a data module validates on, with every kind of prompt.

    Args:
        model: in evaluation mode.
        data: after `setup("validate")`.
    """
    device = next(model.parameters()).device
    annotations = {annotation.image_id: annotation for annotation in data.val_instances}
    people = people_by_id(data.val_instances, data.val_distractors)
    results: list[Result] = []
    for kind, loader in zip(data.val_prompts, data.val_dataloader(), strict=True):
        for batch in loader:
            detections = to_cpu(detect(model, batch.to(device), count=1))
            for image_id, instances in zip(batch.image_ids, detections, strict=True):
                results.append(judge(annotations[image_id], kind, *people[image_id], instances))
    return results


def worst(results: Iterable[Result], count: int) -> list[Result]:
    """The results with the lowest sum of IoU and OKS, one per image, the worst first."""
    seen: set[str] = set()
    chosen = []
    for result in sorted(results, key=lambda r: r.quality):
        if result.annotation.file_name not in seen:
            seen.add(result.annotation.file_name)
            chosen.append(result)
    return chosen[:count]


def contact_row(result: Result, image: Image.Image) -> Row:
    """The row of a contact sheet that shows a result over its image."""
    annotation = result.annotation
    prompt = FixedPrompt(result.kind)(annotated_person(annotation), Random(0))
    mask = decode_segmentation(result.counts, annotation.size).astype(bool)
    labelled = annotation.keypoints[:, 2] > 0
    return Row(
        title=f"{annotation.file_name} · image id {annotation.image_id}",
        image=image,
        prompt=prompt,
        prediction=Body(result.keypoints, result.visible, mask, annotation.schema),
        annotation=Body(
            annotation.keypoints[:, :2],
            labelled,
            annotation.mask().astype(bool),
            annotation.schema,
        ),
        score=result.score,
        iou=result.iou,
        oks=None if math.isnan(result.oks) else result.oks,
    )
