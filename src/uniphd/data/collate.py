"""Samples of different sizes -> one padded batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from uniphd.data.dataset import PersonSample, Sample
from uniphd.errors import PromptError
from uniphd.prompts import TextPrompt, Tokenize, batch_prompts
from uniphd.structures import Batch, Captions, Size, pack_targets

_MULTIPLE = 16  # the canvas is rounded up to it (official release)
_SMALLEST = 32  # sides of the canvas; the backbone's last map has a pixel for so many


class Collate:
    """Put images top left into a zero canvas and stack what can be stacked.

    Args:
        tokenize: turns captions into token ids.
    """

    def __init__(self, tokenize: Tokenize) -> None:
        self.tokenize = tokenize

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Batch samples; the canvas is as high and wide as the largest, rounded up to 16.

        It has at least 32 pixels a side. The people of a sample share its image.

        Raises:
            PromptError: a prompt says nothing or points outside of its image.
        """
        people = [person for sample in samples for person in sample.people]
        image_index = [row for row, sample in enumerate(samples) for _ in sample.people]
        sizes = [(sample.image.shape[1], sample.image.shape[2]) for sample in samples]
        for person, row in zip(people, image_index, strict=True):
            _check_prompt(person, sizes[row])
        images, padding_mask = pad_images([sample.image for sample in samples])
        canvas = (images.shape[-2], images.shape[-1])
        return Batch(
            images=images,
            padding_mask=padding_mask,
            image_index=tuple(image_index),
            sizes=tuple(sizes[row] for row in image_index),
            original_sizes=tuple(samples[row].original_size for row in image_index),
            prompts=batch_prompts([person.prompt for person in people], self.tokenize),
            packed_targets=pack_targets([person.target for person in people], canvas),
            image_ids=tuple(person.image_id for person in people),
            extra_captions=self._extra_captions(people),
            person_ids=tuple(person.person_id for person in people),
        )

    def _extra_captions(self, people: Sequence[PersonSample]) -> Captions | None:
        texts = [TextPrompt(text) for person in people for text in person.extra_captions]
        rows = [row for row, person in enumerate(people) for _ in person.extra_captions]
        return Captions(TextPrompt.collate(texts, self.tokenize), tuple(rows)) if rows else None


def pad_images(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Images (3, h, w) uint8 top left in one canvas (P, 3, H, W), and its padding mask (P, H, W).

    The canvas is as high and wide as the largest, see `canvas_size`.
    """
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    height, width = canvas_size([max(sides) for sides in zip(*sizes, strict=True)])
    padded = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
    padding_mask = torch.ones(len(images), height, width, dtype=torch.bool)
    for row, (h, w) in enumerate(sizes):
        padded[row, :, :h, :w] = images[row]
        padding_mask[row, :h, :w] = False
    return padded, padding_mask


def canvas_size(size: Sequence[int]) -> Size:
    """The canvas (height, width) of an image of `size` that is alone in its batch."""
    height, width = (max(_SMALLEST, -(-length // _MULTIPLE) * _MULTIPLE) for length in size)
    return height, width


def _check_prompt(person: PersonSample, size: Size) -> None:
    try:
        person.prompt.require_sound()
        person.prompt.require_inside(size)
    except PromptError as error:
        raise PromptError(f"image id {person.image_id}: {error}") from error
