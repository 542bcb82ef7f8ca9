"""One image per item with the prompts for its people, for a network that encodes it once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor
from torch.utils.data import Dataset

from uniphd.data.annotations import ReferredPerson
from uniphd.data.coco_prompts import CocoPrompts
from uniphd.data.collate import pad_images
from uniphd.data.dataset import SampleKey
from uniphd.data.images import ReadImage
from uniphd.data.sample import AnnotatedImage, image_tensor
from uniphd.data.transforms import Transform
from uniphd.errors import PromptError
from uniphd.prompts import PromptBatch, Tokenize, batch_prompts
from uniphd.structures import Size


@dataclass(frozen=True)
class PromptedImage:
    """An image and its prompts, as the network takes them.

    Attributes:
        images: (1, 3, H, W) uint8 RGB on its canvas.
        padding_mask: (1, H, W) bool, True on padding.
        size: (h, w) of the image inside the canvas.
        original_size: (h, w) of the image in its file.
        image_id: of the image.
        prompts: in parts, each to be computed at once.
    """

    images: Tensor
    padding_mask: Tensor
    size: Size
    original_size: Size
    image_id: int
    prompts: tuple[PromptBatch, ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PromptedImage:
        """Copy with every tensor on `device`."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=non_blocking),
            padding_mask=self.padding_mask.to(device, non_blocking=non_blocking),
            prompts=tuple(part.to(device, non_blocking) for part in self.prompts),
        )

    def pin_memory(self) -> PromptedImage:
        """Copy with every tensor in page-locked memory."""
        return replace(
            self,
            images=self.images.pin_memory(),
            padding_mask=self.padding_mask.pin_memory(),
            prompts=tuple(part.pin_memory() for part in self.prompts),
        )


class PromptedImages(Dataset[PromptedImage]):
    """Images with the prompts for their people.

    Args:
        images: the people to ask about, image by image; all of an image are in one list.
        read: reads their images.
        transform: preprocessing of the evaluation.
        prompts: for these people.
        prompts_at_once: how many prompts of an image a part has at most.
        tokenize: texts -> ids.
    """

    def __init__(
        self,
        images: Sequence[Sequence[ReferredPerson]],
        read: ReadImage,
        transform: Transform,
        prompts: CocoPrompts,
        prompts_at_once: int,
        tokenize: Tokenize,
    ) -> None:
        self.images = tuple(map(tuple, images))
        self.read = read
        self.transform = transform
        self.prompts = prompts
        self.prompts_at_once = prompts_at_once
        self.tokenize = tokenize

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> PromptedImage:
        """An image.

        Raises:
            ImageError: it is missing or damaged.
            PromptError: a prompt says nothing or is outside of it.
        """
        people = self.images[key.instance]
        first = people[0]
        annotated = self.transform(AnnotatedImage(self.read(first), ()), Random(0))
        fitted = []
        for person in people:
            prompt = self.prompts(person)
            try:
                prompt.require_sound()
                prompt.require_inside(person.size)
            except PromptError as error:
                raise PromptError(f"annotation {person.annotation_id}: {error}") from error
            fitted.append(prompt.resized(person.size, annotated.size))
        pixels, padding_mask = pad_images([image_tensor(annotated.image)])
        starts = range(0, len(fitted), self.prompts_at_once)
        parts = [fitted[start : start + self.prompts_at_once] for start in starts]
        return PromptedImage(
            images=pixels,
            padding_mask=padding_mask,
            size=annotated.size,
            original_size=first.size,
            image_id=first.image_id,
            prompts=tuple(batch_prompts(part, self.tokenize) for part in parts),
        )
