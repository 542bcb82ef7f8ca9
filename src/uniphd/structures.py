"""Typed values that travel from the data to the model and the losses.

Shapes: P images, B prompts, H x W the padded canvas, h x w the image in its top left corner, N
annotated people, T detections, K keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from uniphd.plain_values import PERSON as PERSON
from uniphd.plain_values import Size as Size

if TYPE_CHECKING:
    from uniphd.prompts import PromptBatch, TextBlock


@dataclass(frozen=True)
class Target:
    """What is annotated for one image; coordinates are divided by the unpadded (w, h).

    Attributes:
        labels: (N,) int64 category ids; a person is 1.
        boxes: (N, 4) float, centre x, centre y, width, height.
        keypoints: (N, K, 2) float (x, y); meaningless where `visibility` is 0.
        visibility: (N, K) float, 1 where the keypoint is labelled (hidden or visible), else 0.
        area: (N,) float, mask area divided by w * h.
        masks: (N, h, w) bool.
    """

    labels: Tensor
    boxes: Tensor
    keypoints: Tensor
    visibility: Tensor
    area: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PackedTargets:
    """The targets of a batch in one block of memory per field.

    Processes and devices hand memory over block by block, and a block costs more than its numbers.

    Attributes:
        people: of all targets, one behind the other; their masks lie top left in the padded canvas.
        counts: the number of people of every target.
    """

    people: Target
    counts: tuple[int, ...]

    def split(self) -> tuple[Target, ...]:
        """The targets one by one; views of the blocks."""
        columns = [block.split(self.counts) for block in vars(self.people).values()]
        return tuple(Target(*row) for row in zip(*columns, strict=True))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedTargets:
        """Copy with every block on `device`."""
        return self._map(lambda block: block.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedTargets:
        """Copy with every block in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> PackedTargets:
        blocks = {name: function(block) for name, block in vars(self.people).items()}
        return replace(self, people=Target(**blocks))


def pack_targets(targets: Sequence[Target], canvas: Size) -> PackedTargets:
    """Put targets of images that fit into `canvas` (height, width) behind each other."""
    counts = tuple(map(len, targets))
    masks = torch.zeros(sum(counts), *canvas, dtype=torch.bool)
    for rows, target in zip(masks.split(counts), targets, strict=True):
        height, width = target.masks.shape[-2:]
        rows[:, :height, :width] = target.masks
    names = [field.name for field in fields(Target) if field.name != "masks"]
    blocks = {name: torch.cat([getattr(target, name) for target in targets]) for name in names}
    return PackedTargets(Target(**blocks, masks=masks), counts)


@dataclass(frozen=True)
class Captions:
    """Captions beside a batch's prompts, which the fusion grounds; nothing else is made of them.

    Attributes:
        prompts: N texts.
        rows: N times the row of the batch whose person the caption describes.
    """

    prompts: TextBlock
    rows: tuple[int, ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Captions:
        """Copy with every tensor on `device`."""
        return replace(self, prompts=self.prompts.to(device, non_blocking))

    def pin_memory(self) -> Captions:
        """Copy with every tensor in page-locked memory."""
        return replace(self, prompts=self.prompts.pin_memory())


@dataclass(frozen=True)
class Batch:
    """A padded batch of prompts with their images.

    Images travel as bytes, from the loading processes and to the GPU; the network normalises them.

    Attributes:
        images: (P, 3, H, W) uint8 RGB, zero on padding.
        padding_mask: (P, H, W) bool, True on padding.
        image_index: B times the index of the prompt's image; prompts may share one.
        sizes: B times the (h, w) of the prompt's image inside the canvas.
        original_sizes: B times its (h, w) in its file.
        prompts: B prompts.
        packed_targets: B targets; see `targets`.
        image_ids: B times the annotation file's image id.
        extra_captions: more captions of the same people; None for none.
        person_ids: B times the person that the prompt is about; None for a person per prompt.
    """

    images: Tensor
    padding_mask: Tensor
    image_index: tuple[int, ...]
    sizes: tuple[Size, ...]
    original_sizes: tuple[Size, ...]
    prompts: PromptBatch
    packed_targets: PackedTargets
    image_ids: tuple[int, ...]
    extra_captions: Captions | None = None
    person_ids: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The targets one by one, each with its masks on the canvas."""
        return self.packed_targets.split()

    @property
    def inputs(self) -> tuple[Tensor, Tensor, tuple[Size, ...], PromptBatch, tuple[int, ...]]:
        """What the network takes, in the order of its arguments."""
        return self.images, self.padding_mask, self.sizes, self.prompts, self.image_index

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy with every tensor on `device`."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=non_blocking),
            padding_mask=self.padding_mask.to(device, non_blocking=non_blocking),
            prompts=self.prompts.to(device, non_blocking),
            packed_targets=self.packed_targets.to(device, non_blocking),
            extra_captions=self.extra_captions and self.extra_captions.to(device, non_blocking),
        )

    def pin_memory(self) -> Batch:
        """Copy with every tensor in page-locked memory."""
        return replace(
            self,
            images=self.images.pin_memory(),
            padding_mask=self.padding_mask.pin_memory(),
            prompts=self.prompts.pin_memory(),
            packed_targets=self.packed_targets.pin_memory(),
            extra_captions=self.extra_captions and self.extra_captions.pin_memory(),
        )


@dataclass(frozen=True)
class Instances:
    """What the network detects for one prompt, best first, in pixels of the original image.

    Attributes:
        scores: (T,) in [0, 1].
        boxes: (T, 4) left, top, right, bottom.
        keypoints: (T, K, 2) (x, y).
        visibility: (T, K) probability that the keypoint is visible.
        masks: (T, h, w) bool; None from a model without mask head.
        queries: (T,) int64, the query that each detection comes from; it may appear twice, once per
            class logit.
    """

    scores: Tensor
    boxes: Tensor
    keypoints: Tensor
    visibility: Tensor
    masks: Tensor | None
    queries: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Instances:
        """Copy with every tensor on `device`; Lightning's `Trainer.predict` asks for it."""
        present = {name: value for name, value in vars(self).items() if value is not None}
        return replace(
            self, **{n: v.to(device, non_blocking=non_blocking) for n, v in present.items()}
        )
