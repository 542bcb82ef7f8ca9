"""The first validated people of every prompt kind with their best answers, for images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from lightning import Trainer
from PIL import Image
from torch import Tensor

from uniphd.data.annotations import ReferredPerson
from uniphd.inference.postprocess import Answers
from uniphd.keypoints import OKS_SIGMAS
from uniphd.losses.keypoints import keypoint_variance, object_keypoint_similarity
from uniphd.metrics.mask_iou import mask_overlap
from uniphd.prompts import BoxPrompt, PointPrompt, Prompt, PromptBatch, ScribblePrompt, TextPrompt
from uniphd.structures import Batch, Size
from uniphd.visualization.contact_sheet import Body, Row


class FirstPeople:
    """Collects rows of contact sheets during one validation.

    Args:
        count: people per prompt kind, the first of the validation set.

    Attributes:
        rows: by prompt kind.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.rows: dict[str, list[Row]] = defaultdict(list)

    def collect(
        self,
        trainer: Trainer,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Batch,
        dataloader_idx: int,
    ) -> None:
        """Keep the best answers to a batch, as far as they are among the first.

        Args:
            trainer: whose data module has the annotations and the images.
            outputs: of the module's validation step.
            batch: of that step.
            dataloader_idx: the place of its prompt kind.
        """
        if not isinstance(outputs, Mapping):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        rows = self.rows[data.val_prompts[dataloader_idx]]
        if len(rows) >= self.count:
            return
        people = {person.image_id: person for person in data.val_instances}
        answered = zip(batch.image_ids, outputs["answers"], strict=True)
        for index, (image_id, answers) in list(enumerate(answered))[: self.count - len(rows)]:
            person = people[image_id]
            prompt = prompt_in_image(batch, index, person.caption)
            rows.append(_row(person, data.read(person), prompt, answers))


def prompt_in_image(batch: Batch, index: int, caption: str) -> Prompt:
    """One image's prompt of a batch, in the pixels of the original image.

    Args:
        batch: a collated batch.
        index: the image's place in it.
        caption: the text of the prompt, which a batch holds only as token ids.
    """
    prompts = batch.prompts
    kind = prompts.kinds[index]
    scale = _scale_to_original(batch.sizes[index], batch.original_sizes[index])
    if kind == "text":
        return TextPrompt(caption)
    if kind == "box":
        box = prompts.boxes[prompts.rows("box").index(index)].cpu()
        return BoxPrompt(box * scale.repeat(2))
    points = _stroke(prompts, index) * scale
    return PointPrompt(points[0]) if kind == "point" else ScribblePrompt(points)


def _stroke(prompts: PromptBatch, index: int) -> Tensor:
    """The points (P, 2) of one image's click or scribble."""
    row = prompts.rows("point", "scribble").index(index)
    return prompts.points[row][~prompts.points_padding[row]].cpu()


def _scale_to_original(size: Size, original: Size) -> Tensor:
    """Factor (2,) for (x, y) from the resized to the original image."""
    return torch.tensor([original[1] / size[1], original[0] / size[0]])


def _row(person: ReferredPerson, rendered: Image.Image, prompt: Prompt, answers: Answers) -> Row:
    """The row of one person with the best answer."""
    keypoints = answers.keypoints[0].float().cpu()
    truth = torch.from_numpy(person.keypoints).float()
    labelled = truth[:, 2] > 0
    true_mask = person.mask().astype(bool)
    mask = torch.zeros(true_mask.shape, dtype=torch.bool)
    if answers.masks is not None:
        mask = answers.masks[0].cpu()
    visible = answers.visibility[0].cpu() > 0.5
    overlap = mask_overlap(mask.numpy(), true_mask)
    variance = keypoint_variance(torch.tensor(person.area), torch.tensor(OKS_SIGMAS))
    similarity = object_keypoint_similarity(keypoints, truth[:, :2], labelled.float(), variance)
    return Row(
        title=f"{person.file_name} · image id {person.image_id}",
        image=rendered,
        prompt=prompt,
        prediction=Body(keypoints.numpy(), visible.numpy(), mask.numpy()),
        annotation=Body(truth[:, :2].numpy(), labelled.numpy(), true_mask),
        score=float(answers.scores[0]),
        iou=overlap.iou,
        oks=float(similarity),
    )
