"""Samples of different sizes -> one padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from uniphd.data.dataset import Sample
from uniphd.errors import PromptError
from uniphd.prompts import TextPrompt, Tokenize, batch_prompts, require_inside, require_sound
from uniphd.structures import Batch, Captions, Size, Target

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

        It has at least 32 pixels a side. Neighbours that show the same image share it.

        Raises:
            PromptError: a prompt says nothing or points outside of its image.
        """
        sizes = tuple((sample.image.shape[1], sample.image.shape[2]) for sample in samples)
        for sample, size in zip(samples, sizes, strict=True):
            _check_prompt(sample, size)
        height, width = (_round_up(max(sides)) for sides in zip(*sizes, strict=True))
        different, image_index = _different_images(samples)
        images = torch.zeros(len(different), 3, height, width, dtype=torch.uint8)
        padding_mask = torch.ones(len(different), height, width, dtype=torch.bool)
        for row, image in enumerate(different):
            _, h, w = image.shape
            images[row, :, :h, :w] = image
            padding_mask[row, :h, :w] = False
        return Batch(
            images=images,
            padding_mask=padding_mask,
            image_index=image_index,
            sizes=sizes,
            original_sizes=tuple(sample.original_size for sample in samples),
            prompts=batch_prompts([sample.prompt for sample in samples], self.tokenize),
            targets=_in_blocks([sample.target for sample in samples]),
            image_ids=tuple(sample.image_id for sample in samples),
            extra_captions=self._extra_captions(samples),
        )

    def _extra_captions(self, samples: Sequence[Sample]) -> Captions | None:
        texts = [TextPrompt(text) for sample in samples for text in sample.extra_captions]
        rows = [row for row, sample in enumerate(samples) for _ in sample.extra_captions]
        return Captions(batch_prompts(texts, self.tokenize), tuple(rows)) if rows else None


def _check_prompt(sample: Sample, size: Size) -> None:
    try:
        require_sound(sample.prompt)
        require_inside(sample.prompt, size)
    except PromptError as error:
        raise PromptError(f"image id {sample.image_id}: {error}") from error


def _in_blocks(targets: Sequence[Target]) -> tuple[Target, ...]:
    """The targets as views of one block of memory per field.

    A loading process hands memory over block by block, and a block costs more than its numbers.
    """
    columns = {}
    for field in fields(Target):
        tensors = [getattr(target, field.name) for target in targets]
        block = torch.cat([tensor.flatten() for tensor in tensors])
        parts = block.split([tensor.numel() for tensor in tensors])
        columns[field.name] = [p.view(t.shape) for p, t in zip(parts, tensors, strict=True)]
    return tuple(
        Target(**{name: column[row] for name, column in columns.items()})
        for row in range(len(targets))
    )


def _different_images(samples: Sequence[Sample]) -> tuple[list[Tensor], tuple[int, ...]]:
    """The images without those that equal the one before, and which one every sample has."""
    images: list[Tensor] = []
    rows: list[int] = []
    for sample in samples:
        if not images or not torch.equal(images[-1], sample.image):
            images.append(sample.image)
        rows.append(len(images) - 1)
    return images, tuple(rows)


def _round_up(length: int) -> int:
    return max(_SMALLEST, -(-length // _MULTIPLE) * _MULTIPLE)
