"""What all data modules share: the loaders of training and validation."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, get_args

import lightning
import torch
from torch.utils.data import DataLoader, Dataset

from uniphd.data.annotations import ReferredPerson
from uniphd.data.collate import Collate, canvas_size
from uniphd.data.dataset import BatchedPeople, RefHumanDataset, Sample
from uniphd.data.images import ReadImage
from uniphd.data.resumable import ResumableLoader, leave_stopping_to_the_main_process
from uniphd.data.samplers import EpochSampler, ImageGroupSampler, SameCanvasSampler
from uniphd.data.transforms import Resize, Transform
from uniphd.errors import ConfigError
from uniphd.keypoints import COCO17, keypoint_schema
from uniphd.prompts import FixedPrompt, SamplePrompt, TextPrompt, Tokenize, read_part
from uniphd.structures import Size

if TYPE_CHECKING:
    from typing_extensions import Required

_logger = logging.getLogger(__name__)
ValBatching: TypeAlias = Literal["alone", "official"]


class LoaderOptions(TypedDict, total=False):
    """The arguments of `ReferringDataModule`, which its subclasses pass on."""

    tokenize: Required[Tokenize]
    train_transform: Required[Transform]
    eval_transform: Required[Resize]
    prompt_sampler: Required[SamplePrompt]
    batch_size: int
    val_batch_size: int
    val_batching: ValBatching
    num_workers: int
    pin_memory: bool
    persistent_workers: bool
    val_prompts: Sequence[str]
    group_by_image: bool
    num_extra_captions: int
    seed: int
    keypoints: str


class ReferringDataModule(lightning.LightningDataModule, ABC):
    """Training with drawn prompts, validation once per kind of prompt.

    A subclass fills `train_instances` and `val_instances` in its `setup` and says where their
    images are.

    In a distributed run each process reads its share (see `EpochSampler`); in the validation a few
    people may appear in two processes, so count every image id once.

    Args:
        tokenize: turns captions into token ids.
        train_transform: preprocessing of the training; the evaluation's turns augmentation off.
        eval_transform: preprocessing of the validation.
        prompt_sampler: draws the prompts of the training.
        batch_size: people per training step and process.
        val_batch_size: people per validation step and process.
        val_batching: "alone" puts images of one canvas into a batch, so that each gives what it
            gives alone (see `SameCanvasSampler`); "official" takes the people in their order and
            pads images to the largest of the batch, as the official code does.
        num_workers: processes that load, per loader; 0 loads in the main process.
        pin_memory: whether batches are put into page-locked memory where there is a GPU.
        persistent_workers: whether the training's workers outlive the epoch. (The validation's
            never do: there are as many loaders as kinds of prompt.)
        val_prompts: kinds to validate, one loader each, in this order; see
            `uniphd.prompts.FixedPrompt`.
        group_by_image: whether the people of an image follow each other in the training and, within
            a batch, share the image and its augmentation.
        num_extra_captions: captions of every person of the training beside the prompt; only the
            grounding loss reads them.
        seed: of the order, the augmentation and the prompts.
        keypoints: name of the keypoint set that the annotations have.

    Attributes:
        schema: the keypoint set.
        train_instances: people to train on, after `setup`.
        val_instances: people to validate on, after `setup`; the evaluation's ground truth. Text
            prompts ask for those of them who have captions.
        val_distractors: people of the same images whom nobody refers to, for referring accuracy.

    Raises:
        ConfigError: a batch size below 1, a negative number of workers or captions, no or an
            unknown kind of prompt, an unknown keypoint set or way to make batches, or a transform
            that does not tell the size of its result for images on their own.
    """

    def __init__(
        self,
        tokenize: Tokenize,
        train_transform: Transform,
        eval_transform: Resize,
        prompt_sampler: SamplePrompt,
        batch_size: int = 4,
        val_batch_size: int = 4,
        val_batching: ValBatching = "alone",
        num_workers: int = 4,
        pin_memory: bool = True,
        persistent_workers: bool = True,
        val_prompts: Sequence[str] = ("text", "point", "scribble"),
        group_by_image: bool = False,
        num_extra_captions: int = 0,
        seed: int = 0,
        keypoints: str = COCO17.name,
    ) -> None:
        super().__init__()
        self.schema = keypoint_schema(keypoints)
        require_positive(batch_size=batch_size, val_batch_size=val_batch_size)
        for name, number in (
            ("num_workers", num_workers),
            ("num_extra_captions", num_extra_captions),
        ):
            if number < 0:
                raise ConfigError(f"{name} is {number}; give a number from 0 on.")
        if val_batching not in get_args(ValBatching):
            choices = " or ".join(get_args(ValBatching))
            raise ConfigError(f"val_batching is {val_batching!r}; give {choices}.")
        if val_batching == "alone" and not hasattr(eval_transform, "output_size"):
            raise ConfigError(
                f"{type(eval_transform).__name__} as eval_transform has no output_size(size), by "
                "which images of one size share a batch; add it, or give val_batching=official."
            )
        if not val_prompts:
            raise ConfigError("val_prompts is empty; name at least one kind of prompt.")
        self.train_transform = train_transform
        self.eval_transform = eval_transform
        self.prompt_sampler = prompt_sampler
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self.val_batching = val_batching
        self.num_workers = num_workers
        self.pin_memory = pin_memory and torch.cuda.is_available()
        self.persistent_workers = persistent_workers and num_workers > 0
        self._fixed_prompts = tuple(map(FixedPrompt, val_prompts))
        self.val_prompts = tuple(prompt.kind for prompt in self._fixed_prompts)
        self.group_by_image = group_by_image
        self.num_extra_captions = num_extra_captions
        self.seed = seed
        self.train_instances: tuple[ReferredPerson, ...] = ()
        self.val_instances: tuple[ReferredPerson, ...] = ()
        self.val_distractors: tuple[ReferredPerson, ...] = ()
        self._tokenize = tokenize
        self._collate = Collate(tokenize)
        self._warned_of_captions = False

    @property
    @abstractmethod
    def read(self) -> ReadImage:
        """Reads the image of a record."""

    @property
    def validates(self) -> bool:
        """Whether there is anything to validate on; known before `setup`."""
        return True

    @property
    def train_kinds(self) -> set[str]:
        """The kinds of prompt that a training batch may hold; further captions are text prompts."""
        return {
            *self.prompt_sampler.kinds,
            *((TextPrompt.kind,) if self.num_extra_captions else ()),
        }

    @property
    def val_people(self) -> list[tuple[ReferredPerson, ...]]:
        """Whom every kind of prompt is validated on: without captions, nobody is asked for by text.

        In the order of `val_prompts`.
        """
        return [
            tuple(person for person in self.val_instances if person.captions)
            if prompt.caption_kinds
            else self.val_instances
            for prompt in self._fixed_prompts
        ]

    @property
    def val_text_prompts(self) -> bool:
        """Whether any prompt of the validation is made of captions."""
        return any(prompt.caption_kinds for prompt in self._fixed_prompts)

    @property
    def val_scribble_prompts(self) -> tuple[str, ...]:
        """The kinds of prompt of the validation that are made of annotated scribbles."""
        return tuple(kind for prompt in self._fixed_prompts for kind in prompt.scribble_kinds)

    def require_referred(self) -> None:
        """Refuse to be validated, where a sample is not one referred person.

        Raises:
            ConfigError: another protocol is for this data.
        """

    def train_dataloader(self) -> DataLoader[Sample]:
        """Batches of `uniphd.structures.Batch`, shuffled anew in every epoch."""
        dataset = RefHumanDataset(
            self.train_instances,
            self.read,
            self.train_transform,
            self.prompt_sampler,
            self.seed,
            self.num_extra_captions,
            self.group_by_image,
        )
        order = ImageGroupSampler if self.group_by_image else EpochSampler
        sampler = order(dataset, shuffle=True, seed=self.seed)
        return self._loader(dataset, self.batch_size, sampler, self.persistent_workers)

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """One loader per kind of prompt, in the order of `val_prompts`; none without people."""
        if not self.validates:
            return []
        self._warn_of_cut_captions()
        datasets = [
            RefHumanDataset(
                people,
                self.read,
                self.eval_transform,
                prompt,
                self.seed,
                group_by_image=True,
            )
            for prompt, people in zip(self._fixed_prompts, self.val_people, strict=True)
        ]
        if self.val_batching == "official":
            return [
                self._loader(dataset, self.val_batch_size, EpochSampler(dataset, False), False)
                for dataset in datasets
            ]
        return [
            self._loader(
                BatchedPeople(dataset),
                None,  # the sampler makes the batches
                SameCanvasSampler(self._canvases(dataset), self.val_batch_size),
                False,
            )
            for dataset in datasets
        ]

    def _warn_of_cut_captions(self) -> None:
        """Say once how many captions of the validation are read in part only."""
        if self._warned_of_captions or not self.val_text_prompts:
            return
        self._warned_of_captions = True
        texts = {person.caption for person in self.val_instances if person.captions}
        cut = [text for text in texts if len(read_part(self._tokenize, text)) < len(text)]
        if cut:
            _logger.warning(
                "Of %d captions of the validation, %d are longer than the tokenizer reads and are "
                "cut, such as: %.60r",
                *(len(texts), len(cut), min(cut)),
            )

    def _canvases(self, dataset: RefHumanDataset) -> list[Size]:
        """The canvas of everybody's image in the validation."""
        sizes = [self.eval_transform.output_size(person.size) for person in dataset.instances]
        return [canvas_size(size) for size in sizes]

    def predict_dataloader(self) -> list[DataLoader[Sample]]:
        """What is validated is predicted."""
        return self.val_dataloader()

    def _loader(
        self,
        dataset: Dataset[Any],
        batch_size: int | None,
        sampler: EpochSampler,
        persistent: bool,
    ) -> DataLoader[Sample]:
        # A generator of its own: loading must not advance the global one, which the model uses.
        return ResumableLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=self._collate,
            pin_memory=self.pin_memory,
            persistent_workers=persistent,
            worker_init_fn=leave_stopping_to_the_main_process,
            generator=torch.Generator().manual_seed(self.seed),
        )


def require_positive(**numbers: int | None) -> None:
    """Refuse numbers below 1; None is not given.

    Raises:
        ConfigError: naming the first of them.
    """
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ConfigError(f"{name} is {number}; give a number of at least 1.")
