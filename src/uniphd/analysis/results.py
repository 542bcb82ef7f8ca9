"""Answers judged one by one: how good is each of them, and whom does it show?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from uniphd.data.annotations import ReferredPerson
from uniphd.data.masks import decode_segmentation
from uniphd.data.prompts import FixedPrompt
from uniphd.data.sample import make_scene
from uniphd.inference.postprocess import Answers
from uniphd.inference.predict import predict_answers
from uniphd.metrics.oks import keypoint_similarity
from uniphd.metrics.referring import ACCURATE, group_by_image
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import PromptKind
from uniphd.visualization.contact_sheet import Body, Row

if TYPE_CHECKING:
    from uniphd.data.loading import PeopleDataModule

_SOMEBODY = 0.1
"""A mask that overlaps everybody by less than this shows nobody."""


@dataclass(frozen=True)
class Crowd:
    """The people of an image and which of them a record refers to.

    Attributes:
        people: all that are annotated, each of them once.
        meant: the place in `people` of the one referred to.
    """

    people: tuple[ReferredPerson, ...]
    meant: int

    @property
    def person(self) -> ReferredPerson:
        """Who is referred to."""
        return self.people[self.meant]

    @cached_property
    def closeness(self) -> float:
        """The largest IoU of the person's box with somebody else's; 0 for who is alone."""
        boxes = [np.array(person.bbox, dtype=np.float64) for person in self.people]
        others = [box for place, box in enumerate(boxes) if place != self.meant]
        if not others:
            return 0.0
        overlaps = coco_mask.iou(boxes[self.meant][None], np.stack(others), [False] * len(others))
        return float(overlaps.max())


@dataclass(frozen=True)
class Outcome:
    """The best answer to one prompt, compared with the annotation.

    Attributes:
        record: the record that the prompt comes from.
        kind: of the prompt.
        crowd: the people of the image.
        score: the answer's confidence.
        keypoints: (17, 2) the answer's, in pixels of the image.
        visible: (17,) bool, what the answer calls visible.
        counts: the answer's mask as compressed run lengths.
        overlaps: (people,) IoU of the answer's mask with everybody's.
        oks: object keypoint similarity with the person meant; NaN without labelled keypoints.
    """

    record: ReferredPerson
    kind: PromptKind
    crowd: Crowd
    score: float
    keypoints: npt.NDArray[np.float64]
    visible: npt.NDArray[np.bool_]
    counts: bytes
    overlaps: npt.NDArray[np.float64]
    oks: float

    @property
    def iou(self) -> float:
        """Mask IoU with the person meant."""
        return float(self.overlaps[self.crowd.meant])

    @property
    def answered(self) -> int | None:
        """The place among the people of who is overlapped most; None where that is nobody."""
        best = int(self.overlaps.argmax())
        return best if self.overlaps[best] >= _SOMEBODY else None

    @property
    def chosen(self) -> bool:
        """Whether the answer shows the person meant rather than somebody else or nobody."""
        return self.answered == self.crowd.meant

    @property
    def found(self) -> bool:
        """Whether it does so with a mask IoU of at least one half."""
        return self.chosen and self.iou >= ACCURATE

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """(17,) distance of every keypoint over the person's size; NaN where it is not labelled.

        The size is the square root of the mask's area, as in the object keypoint similarity.
        """
        truth = self.record.keypoints.astype(np.float64)
        distance = np.linalg.norm(self.keypoints - truth[:, :2], axis=1)
        size = math.sqrt(max(self.record.area, 1.0))
        errors: npt.NDArray[np.float64] = np.where(truth[:, 2] > 0, distance / size, np.nan)
        return errors


def judge_answer(
    record: ReferredPerson, kind: PromptKind, crowd: Crowd, answers: Answers
) -> Outcome:
    """Compare the best answer to one prompt with everybody in the image.

    Args:
        record: whom the prompt refers to.
        kind: of the prompt.
        crowd: the people of the image.
        answers: at least one, the best first. Without masks they show nobody.
    """
    keypoints = answers.keypoints[0].double().cpu().numpy()
    mask = np.zeros(record.size, dtype=np.uint8)
    if answers.masks is not None:
        mask = answers.masks[0].byte().cpu().numpy()
    runs = coco_mask.encode(np.asfortranarray(mask))
    people = [person.segmentation for person in crowd.people]
    similarity = keypoint_similarity(
        keypoints[None], record.keypoints[None], np.array([record.area])
    )
    return Outcome(
        record=record,
        kind=kind,
        crowd=crowd,
        score=float(answers.scores[0]),
        keypoints=keypoints,
        visible=(answers.visibility[0] > 0.5).cpu().numpy(),
        counts=bytes(runs["counts"]),
        overlaps=coco_mask.iou([runs], people, [False] * len(people))[0],
        oks=float(similarity[0, 0]) if record.num_keypoints else math.nan,
    )


def crowds_by_id(
    records: Sequence[ReferredPerson], others: Sequence[ReferredPerson] = ()
) -> dict[int, Crowd]:
    """The people around every record, by image id.

    Args:
        records: who is referred to.
        others: people of the same images whom nobody refers to.
    """
    return {
        record.image_id: Crowd(crowd.people, int(meant))
        for crowd in group_by_image(records, others)
        for record, meant in zip(crowd.records, crowd.referred, strict=True)
    }


def examine(model: UniPHD, data: PeopleDataModule) -> list[Outcome]:
    """Ask a network for everybody that a data module validates on, with every kind of prompt.

    Args:
        model: in evaluation mode.
        data: after `setup("validate")`.
    """
    device = next(model.parameters()).device
    records = {record.image_id: record for record in data.val_instances}
    crowds = crowds_by_id(data.val_instances, data.val_distractors)
    outcomes: list[Outcome] = []
    for kind, loader in zip(data.val_prompts, data.val_dataloader(), strict=True):
        for batch in loader:
            answers = predict_answers(model, batch.to(device), top_k=1)
            for image_id, answer in zip(batch.image_ids, answers, strict=True):
                outcomes.append(judge_answer(records[image_id], kind, crowds[image_id], answer))
    return outcomes


def worst(outcomes: Iterable[Outcome], count: int) -> list[Outcome]:
    """The outcomes with the lowest sum of IoU and OKS, one per image, the worst first."""
    seen: set[str] = set()
    chosen = []
    for outcome in sorted(outcomes, key=lambda o: o.iou + float(np.nan_to_num(o.oks))):
        if outcome.record.file_name not in seen:
            seen.add(outcome.record.file_name)
            chosen.append(outcome)
    return chosen[:count]


def contact_row(outcome: Outcome, image: Image.Image) -> Row:
    """The row of a contact sheet that shows an outcome over its image."""
    record = outcome.record
    prompt = FixedPrompt(outcome.kind)(make_scene(image, record), Random(0))
    mask = decode_segmentation(outcome.counts, record.size).astype(bool)
    truth = Body(record.keypoints[:, :2], record.keypoints[:, 2] > 0, record.mask().astype(bool))
    return Row(
        title=f"{record.file_name} · image id {record.image_id}",
        image=image,
        prompt=prompt,
        prediction=Body(outcome.keypoints, outcome.visible, mask),
        annotation=truth,
        score=outcome.score,
        iou=outcome.iou,
        oks=None if math.isnan(outcome.oks) else outcome.oks,
    )
