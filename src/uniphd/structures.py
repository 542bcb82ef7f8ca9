"""Typed values that travel from the data to the model and the losses.

Shapes: P pictures, B prompts, H x W the padded canvas, h x w the picture in its top left corner, N
annotated people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import torch
from torch import Tensor

from uniphd.prompts import PromptBatch

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class Target:
    """What is annotated for one image; coordinates are divided by the unpadded (w, h).

    Attributes:
        labels: (N,) int64 category ids; a person is 1.
        boxes: (N, 4) float, centre x, centre y, width, height.
        keypoints: (N, 17, 2) float (x, y); meaningless where `visibility` is 0.
        visibility: (N, 17) float, 1 where the keypoint is labelled (hidden or visible), else 0.
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

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Target:
        """Copy with every tensor on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Target:
        """Copy with every tensor in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Target:
        return replace(self, **{f.name: function(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class Batch:
    """A padded batch of prompts with their pictures.

    Attributes:
        images: (P, 3, H, W) float, normalised, zero on padding.
        padding_mask: (P, H, W) bool, True on padding.
        pictures: B times the index of the prompt's picture; prompts may share one.
        sizes: B times the (h, w) of the prompt's picture inside the canvas.
        original_sizes: B times its (h, w) in its file.
        prompts: B prompts.
        targets: B targets.
        image_ids: B times the annotation file's image id.
    """

    images: Tensor
    padding_mask: Tensor
    pictures: tuple[int, ...]
    sizes: tuple[Size, ...]
    original_sizes: tuple[Size, ...]
    prompts: PromptBatch
    targets: tuple[Target, ...]
    image_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def inputs(self) -> tuple[Tensor, Tensor, tuple[Size, ...], PromptBatch, tuple[int, ...]]:
        """What the network takes, in the order of its arguments."""
        return self.images, self.padding_mask, self.sizes, self.prompts, self.pictures

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy with every tensor on `device`."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=non_blocking),
            padding_mask=self.padding_mask.to(device, non_blocking=non_blocking),
            prompts=self.prompts.to(device, non_blocking),
            targets=tuple(target.to(device, non_blocking) for target in self.targets),
        )

    def pin_memory(self) -> Batch:
        """Copy with every tensor in page-locked memory."""
        return replace(
            self,
            images=self.images.pin_memory(),
            padding_mask=self.padding_mask.pin_memory(),
            prompts=self.prompts.pin_memory(),
            targets=tuple(target.pin_memory() for target in self.targets),
        )
