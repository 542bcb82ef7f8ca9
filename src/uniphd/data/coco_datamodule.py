"""COCO's people for Lightning, to be asked about image by image."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader

from uniphd.data.annotations import ReferredPerson
from uniphd.data.coco_file import CocoFile, read_coco
from uniphd.data.coco_prompts import CocoPrompts
from uniphd.data.images import ImageFolder, verify_images
from uniphd.data.loaders import LoaderOptions, ReferringDataModule
from uniphd.data.paths import at_home, existing_folders
from uniphd.data.problems import OnError, raise_or_log, unusable_ids
from uniphd.data.prompted_images import PromptedImage, PromptedImages
from uniphd.data.resumable import leave_stopping_to_the_main_process
from uniphd.data.samplers import EpochSampler
from uniphd.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from typing_extensions import Unpack

_logger = logging.getLogger(__name__)


class CocoDataModule(ReferringDataModule):
    """Everybody in a COCO keypoints file, for the evaluation by COCO's protocol alone.

    `val_batch_size` is the number of an image's prompts that are computed at once.

    Args:
        coco: such as `person_keypoints_val2017.json`. Here and in `images`, a leading `~` is the
            home folder.
        images: folder of its images, such as `val2017`.
        linked_folders: folders elsewhere into which links of the image folder may lead.
        on_error: "raise" stops at unusable annotations or images; "skip" leaves them out, also of
            the ground truth, and logs how many.
        verify_files: whether to read every image once at the start; without, a damaged one
            stops the evaluation when it is reached.
        loading: the arguments of `ReferringDataModule`.

    Raises:
        ConfigError: a batch size below 1, a kind of prompt that is unknown or made of captions, or
            a linked folder that does not exist.
    """

    def __init__(
        self,
        coco: Path | str,
        images: Path | str,
        linked_folders: Sequence[str] | str = (),
        on_error: OnError = "raise",
        verify_files: bool = True,
        **loading: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(**loading)
        if self.val_text_prompts:
            raise ConfigError(
                "A COCO file has no captions, of which text prompts are made; give other kinds, "
                "such as prompt=spatial, prompt=box or prompt=mask."
            )
        self.coco = at_home(coco)
        self.images = at_home(images)
        self.linked_folders = existing_folders(linked_folders)
        self.on_error: OnError = on_error
        self.verify_files = verify_files
        self._file: CocoFile | None = None

    @property
    def read(self) -> ImageFolder:
        """Reads the image of a person from the image folder."""
        return ImageFolder(self.images, self.linked_folders)

    def setup(self, stage: str | None = None) -> None:
        """Refuse to be asked by Lightning: `CocoProtocol` takes the loaders that it needs.

        Raises:
            ConfigError: always.
        """
        if stage != "validate":
            raise ConfigError("data=coco is for uniphd-eval protocol=coco; train on other data.")
        self.require_referred()

    @property
    def file(self) -> CocoFile:
        """The people and their ground truth, read and checked when it is first asked for.

        Raises:
            AnnotationError: see `read_coco`.
            ImageError: an image is missing or damaged.
        """
        if self._file is None:
            file = read_coco(self.coco, self.on_error, self.schema)
            self._file = self._with_images(file) if self.verify_files else file
        return self._file

    def require_referred(self) -> None:
        """Refuse RefHuman's protocol: an image with several people is no sample of it."""
        raise ConfigError("data=coco is for protocol=coco; add that, or evaluate on other data.")

    def people_with(self, prompts: CocoPrompts) -> tuple[tuple[ReferredPerson, ...], ...]:
        """The people for whom there is a prompt, image by image; images without are left out."""
        asked = filter(prompts.has, self.file.people)
        return tuple(tuple(group) for _, group in groupby(asked, lambda person: person.image_id))

    def prompted_dataloader(
        self, images: Sequence[Sequence[ReferredPerson]], prompts: CocoPrompts
    ) -> DataLoader[PromptedImage]:
        """Loads images of `people_with` as `PromptedImage`, one per step.

        Args:
            images: their people.
            prompts: for these.
        """
        dataset = PromptedImages(
            images,
            self.read,
            self.eval_transform,
            prompts,
            self.val_batch_size,
            self._collate.tokenize,
        )
        return DataLoader(
            dataset,
            batch_size=None,  # an item is a step
            sampler=EpochSampler(dataset, shuffle=False),  # type: ignore[arg-type]
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            worker_init_fn=leave_stopping_to_the_main_process,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _with_images(self, file: CocoFile) -> CocoFile:
        """The file, without people whose image cannot be used."""
        workers = min(8, os.cpu_count() or 1)
        problems = verify_images(file.people, self.images, workers, self.linked_folders)
        raise_or_log(problems, self.on_error, ImageError, str(self.images))
        unusable = unusable_ids(problems)
        if not unusable:
            return file
        kept = replace(
            file,
            people=tuple(p for p in file.people if p.image_id not in unusable),
            images=tuple(e for e in file.images if e["id"] not in unusable),
            annotations=tuple(e for e in file.annotations if e["image_id"] not in unusable),
        )
        if not kept.people:
            raise ImageError(f"{self.images} has no usable image of {self.coco}; correct it.")
        return kept
