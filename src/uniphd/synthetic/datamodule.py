"""Synthetic people for Lightning: rendered when the run starts, kept in memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from uniphd.data.annotations import ReferredPerson
from uniphd.data.loaders import LoaderOptions, ReferringDataModule, require_positive
from uniphd.errors import ConfigError
from uniphd.keypoints import COCO17
from uniphd.synthetic.annotations import MAX_SCENES, render_annotated
from uniphd.synthetic.layout import Split
from uniphd.synthetic.parallel import parallel_map
from uniphd.synthetic.scene import SceneConfig

if TYPE_CHECKING:
    from typing_extensions import Unpack

ValSplit: TypeAlias = Literal["seen", "seen_pairs", "unseen"]
_SPLITS: dict[str, Split] = {
    "seen": "val",
    "seen_pairs": "val_seen_pairs",
    "unseen": "val_unseen",
}

_FEW = 64  # images that this process renders before other processes would have started

_logger = logging.getLogger(__name__)


class SyntheticDataModule(ReferringDataModule):
    """Synthetic people without files: the same as `uniphd-data synth` writes.

    Images are rendered once, at the start, and stay in memory (49 KB per image of 128 x 128
    pixels). Rendering them in every epoch would cost about as much as training a small network.

    Args:
        train_scenes: images to train on.
        val_scenes: images to validate on.
        split: people to validate on: "seen" are like those of the training; "unseen" wear
            combinations of colours that nobody wears there, and "seen_pairs" are equally difficult
            with combinations that occur.
        size: (height, width) of the images.
        people: smallest and largest number of people per image.
        scene_seed: of the scenes; `seed` is of order, augmentation and prompts.
        num_render_workers: processes that render the scenes at the start; None for one per core.
        loading: the arguments of `ReferringDataModule`.

    Raises:
        ConfigError: a number out of range, an unknown split, no or an unknown kind of prompt,
            keypoints other than COCO's.
    """

    def __init__(
        self,
        train_scenes: int = 6000,
        val_scenes: int = 500,
        split: ValSplit = "seen",
        size: Sequence[int] = (128, 128),
        people: Sequence[int] = (2, 4),
        scene_seed: int = 0,
        num_render_workers: int | None = None,
        **loading: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(**loading)
        if self.schema != COCO17:
            raise ConfigError(
                f"Synthetic people have no poses of {self.schema}; give keypoints={COCO17.name} "
                "or other data."
            )
        require_positive(
            train_scenes=train_scenes, val_scenes=val_scenes, num_render_workers=num_render_workers
        )
        if max(train_scenes, val_scenes) > MAX_SCENES:
            raise ConfigError(f"More than {MAX_SCENES} scenes cannot be rendered; ask for fewer.")
        if split not in _SPLITS:
            raise ConfigError(f"split is {split!r}; choose from {', '.join(_SPLITS)}.")
        if len(size) != 2 or len(people) != 2:
            raise ConfigError("size is [height, width] and people is [smallest, largest].")
        self.scene_config = SceneConfig(scene_seed, (size[0], size[1]), (people[0], people[1]))
        self.train_scenes = train_scenes
        self.val_scenes = val_scenes
        self.split = _SPLITS[split]
        self.num_render_workers = num_render_workers
        self._read = ImageMemory()

    @property
    def read(self) -> ImageMemory:
        """Read an annotated image from memory."""
        return self._read

    def setup(self, stage: str | None = None) -> None:
        """Render what a stage ("fit", "validate", ...) needs, once."""
        if stage in (None, "fit") and not self.train_instances:
            self.train_instances, _ = self._render("train", self.train_scenes)
        if not self.val_instances:
            self.val_instances, self.val_distractors = self._render(self.split, self.val_scenes)

    def _render(
        self, split: Split, count: int
    ) -> tuple[tuple[ReferredPerson, ...], tuple[ReferredPerson, ...]]:
        """The people that a split asks for, and the others of their images."""
        images = torch.empty(count, *self.scene_config.size, 3, dtype=torch.uint8)
        chosen: list[ReferredPerson] = []
        others: list[ReferredPerson] = []
        names: list[str] = []
        workers = self.num_render_workers if count > _FEW else 1
        render = partial(render_annotated, self.scene_config, split)
        for scene in parallel_map(render, range(count), workers):
            images[len(names)] = torch.from_numpy(scene.image)
            names.append(scene.annotations[0].file_name)
            for annotation, referred in zip(scene.annotations, scene.referred, strict=True):
                (chosen if referred else others).append(annotation)
        self._read.add(names, images)
        _logger.info("rendered %d synthetic images (%s): %d people", count, split, len(chosen))
        return tuple(chosen), tuple(others)


class ImageMemory:
    """Images by file name, in memory that loading processes share."""

    def __init__(self) -> None:
        self._images: list[Tensor] = []
        self._places: dict[str, tuple[int, int]] = {}

    def __call__(self, person: ReferredPerson) -> Image.Image:
        """The RGB image that an annotation belongs to."""
        part, row = self._places[person.file_name]
        return Image.fromarray(self._images[part][row].numpy())

    def add(self, names: Sequence[str], images: Tensor) -> None:
        """Keep images (N, h, w, 3) uint8 under their N names."""
        part = len(self._images)
        self._images.append(images.share_memory_())
        self._places |= {name: (part, row) for row, name in enumerate(names)}
