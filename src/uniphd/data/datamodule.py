"""RefHuman for Lightning: files checked before the first step, then the loaders."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import lightning
import torch
from torch.utils.data import DataLoader

from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.data.collate import Collate
from uniphd.data.dataset import EpochSampler, RefHumanDataset, Sample
from uniphd.data.images import verify_images
from uniphd.data.problems import OnError, settle
from uniphd.data.prompts import DrawPrompt, FixedPrompt
from uniphd.data.transforms import Transform
from uniphd.errors import ConfigError, ImageError
from uniphd.prompts import PromptKind, Tokenize

_logger = logging.getLogger(__name__)


class RefHumanDataModule(lightning.LightningDataModule):
    """Training with drawn prompts, validation once per kind of prompt.

    Only the file that is needed has to exist: validating works with `RefHuman_val.json` alone, and
    training without validation with `val_file=None`.

    In a distributed run each process reads its share (see `EpochSampler`); in the last validation
    batch a few people may appear in two processes, so count every image id once.

    Args:
        root: folder of the annotation files and of the image folder.
        tokenize: turns captions into token ids.
        train_transform: preprocessing of the training; the evaluation's turns augmentation off.
        eval_transform: preprocessing of the validation.
        prompt_sampler: draws the prompts of the training.
        train_file: annotations to train on.
        val_file: annotations to validate on, or None for none.
        image_folder: of the photographs, inside `root`.
        batch_size: people per training step and process.
        val_batch_size: people per validation step and process.
        num_workers: processes that load, per loader; 0 loads in the main process.
        pin_memory: whether batches are put into page-locked memory where there is a GPU.
        persistent_workers: whether the training's workers outlive the epoch. (The validation's
            never do: there are as many loaders as kinds of prompt.)
        val_prompts: kinds to validate, one loader each, in this order.
        limit_people: train on this many people, those with the lowest image ids; None for all.
        limit_val_people: validate on this many people, those with the lowest image ids.
        on_error: "raise" stops before the first step at unusable annotations or photographs; "skip"
            leaves them out and logs how many.
        verify_files: whether to read every photograph once at the start; without, a damaged one
            stops the run when it is reached.
        seed: of the order and of every random number of the data.

    Attributes:
        train_records: people to train on, after `setup`.
        val_records: people to validate on, after `setup`; the evaluation's ground truth.

    Raises:
        ConfigError: a batch size or limit below 1, no or an unknown kind of prompt.
    """

    def __init__(
        self,
        root: Path | str,
        tokenize: Tokenize,
        train_transform: Transform,
        eval_transform: Transform,
        prompt_sampler: DrawPrompt,
        train_file: str = "RefHuman_train.json",
        val_file: str | None = "RefHuman_val.json",
        image_folder: str = "images",
        batch_size: int = 4,
        val_batch_size: int = 4,
        num_workers: int = 4,
        pin_memory: bool = True,
        persistent_workers: bool = True,
        val_prompts: Sequence[PromptKind] = ("text", "point", "scribble"),
        limit_people: int | None = None,
        limit_val_people: int | None = None,
        on_error: OnError = "raise",
        verify_files: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _require_positive(
            batch_size=batch_size,
            val_batch_size=val_batch_size,
            limit_people=limit_people,
            limit_val_people=limit_val_people,
        )
        if not val_prompts:
            raise ConfigError("val_prompts is empty; name at least one kind of prompt.")
        self.root = Path(root)
        self.train_transform = train_transform
        self.eval_transform = eval_transform
        self.prompt_sampler = prompt_sampler
        self.train_file = train_file
        self.val_file = val_file
        self.image_folder = self.root / image_folder
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self.num_workers = num_workers
        self.pin_memory = pin_memory and torch.cuda.is_available()
        self.persistent_workers = persistent_workers and num_workers > 0
        self.val_prompts = tuple(val_prompts)
        self.limit_people = limit_people
        self.limit_val_people = limit_val_people
        self.on_error: OnError = on_error
        self.verify_files = verify_files
        self.seed = seed
        self.train_records: tuple[ReferredPerson, ...] = ()
        self.val_records: tuple[ReferredPerson, ...] = ()
        self._collate = Collate(tokenize)
        self._fixed_prompts = tuple(FixedPrompt(kind) for kind in self.val_prompts)

    def setup(self, stage: str | None = None) -> None:
        """Read and check what a stage ("fit", "validate", ...) needs, once.

        Raises:
            AnnotationError: a file or record is not valid.
            ImageError: a photograph is missing or damaged.
            ConfigError: there is no file to validate on.
        """
        if stage == "validate" and self.val_file is None:
            raise ConfigError("data.val_file is null; name the annotations to validate on.")
        if stage in (None, "fit") and not self.train_records:
            self.train_records = self._load("training", self.train_file, self.limit_people)
        if self.val_file is not None and not self.val_records:
            self.val_records = self._load("validating", self.val_file, self.limit_val_people)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Batches of `uniphd.structures.Batch`, shuffled anew in every epoch."""
        dataset = RefHumanDataset(
            self.train_records,
            self.image_folder,
            self.train_transform,
            self.prompt_sampler,
            self.seed,
        )
        return self._loader(dataset, self.batch_size, True, self.persistent_workers)

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """One loader per kind of prompt, in the order of `val_prompts`; none without a file."""
        if self.val_file is None:
            return []
        datasets = [
            RefHumanDataset(
                self.val_records, self.image_folder, self.eval_transform, prompt, self.seed
            )
            for prompt in self._fixed_prompts
        ]
        return [self._loader(dataset, self.val_batch_size, False, False) for dataset in datasets]

    def _load(self, purpose: str, file: str, limit: int | None) -> tuple[ReferredPerson, ...]:
        """The valid records of a file, at most `limit` of them, with usable photographs."""
        path = self.root / file
        records = load_annotations(path, self.on_error).records[:limit]
        if self.verify_files:
            workers = min(8, os.cpu_count() or 1)
            problems = verify_images(records, self.image_folder, workers)
            settle(problems, self.on_error, ImageError, str(self.image_folder))
            unusable = {image_id for problem in problems for image_id in problem.image_ids}
            records = tuple(person for person in records if person.image_id not in unusable)
        if not records:
            raise ImageError(f"{path} has no person with a usable photograph; correct the files.")
        subset = "" if limit is None else ", those with the lowest image ids"
        ids = f"image ids {records[0].image_id} to {records[-1].image_id}"
        _logger.info("%s on %d people of %s%s (%s)", purpose, len(records), path, subset, ids)
        return records

    def _loader(
        self, dataset: RefHumanDataset, batch_size: int, shuffle: bool, persistent: bool
    ) -> DataLoader[Sample]:
        # A generator of its own: loading must not advance the global one, which the model uses.
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=EpochSampler(dataset, shuffle, self.seed),
            num_workers=self.num_workers,
            collate_fn=self._collate,
            pin_memory=self.pin_memory,
            persistent_workers=persistent,
            generator=torch.Generator().manual_seed(self.seed),
        )


def _require_positive(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ConfigError(f"{name} is {number}; give a number of at least 1.")
