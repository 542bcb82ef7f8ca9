"""One image per item with some of its people: prompts and targets, as the network takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import Dataset

from uniphd.data.annotations import ReferredPerson
from uniphd.data.identity import person_places
from uniphd.data.images import ReadImage
from uniphd.data.sample import AnnotatedPerson, annotate, image_tensor, make_target
from uniphd.data.transforms import Transform
from uniphd.prompts import Prompt, SamplePrompt
from uniphd.structures import Size, Target


@dataclass(frozen=True)
class PersonSample:
    """One of the people of a `Sample`.

    Attributes:
        prompt: in pixels of the image.
        target: of this person.
        image_id: of the annotation file, where every person has one.
        person_id: the image id of the sample's first one who is the same person.
        extra_captions: captions of the person beside the prompt, each different.
    """

    prompt: Prompt
    target: Target
    image_id: int
    person_id: int
    extra_captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """An item of the data set: an image, decoded and augmented once, and some of its people.

    Attributes:
        image: (3, h, w) uint8 RGB.
        original_size: (height, width) of the image.
        people: at least one.
    """

    image: Tensor
    original_size: Size
    people: tuple[PersonSample, ...]


class SampleKey(NamedTuple):
    """Whom to load, by the place in `RefHumanDataset.instances`, and in which epoch."""

    epoch: int
    instance: int


class RefHumanDataset(Dataset[Sample]):
    """Referred people with their images.

    What is drawn for a person depends on (seed, epoch, index) and on nothing else, so any number of
    workers and a resumed run draw the same. `EpochSampler` hands the epoch over with every index.

    People of an image who follow each other in a batch may become one sample: then one of the
    image's augmentations, the first one's, holds for all of them.

    Args:
        instances: the people, in the order of the indices.
        read: reads their images.
        transform: changes image and annotations together.
        prompt: draws the prompt.
        seed: of every random number.
        num_extra_captions: how many of the person's captions, drawn anew, a sample has beside its
            prompt; all of them where there are fewer.
        group_by_image: whether neighbours of a batch with the same image are one sample.
    """

    def __init__(
        self,
        instances: Sequence[ReferredPerson],
        read: ReadImage,
        transform: Transform,
        prompt: SamplePrompt,
        seed: int = 0,
        num_extra_captions: int = 0,
        group_by_image: bool = False,
    ) -> None:
        self.instances = tuple(instances)
        self.read = read
        self.transform = transform
        self.prompt = prompt
        self.seed = seed
        self.num_extra_captions = num_extra_captions
        self.group_by_image = group_by_image

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        """The sample of one person; a bare index is taken in epoch 0.

        Raises:
            ImageError: the image is missing or damaged.
        """
        (sample,) = self.__getitems__([key])
        return sample

    def __getitems__(self, keys: Sequence[SampleKey | int]) -> list[Sample]:
        """The samples of a batch of people, which a `DataLoader` asks for as a whole."""
        people = [key if isinstance(key, SampleKey) else SampleKey(0, key) for key in keys]
        if not self.group_by_image:
            return [self._load(epoch, [index]) for epoch, index in people]
        runs = groupby(people, lambda key: (key.epoch, *self._image(key.instance)))
        return [self._load(epoch, [key.instance for key in run]) for (epoch, *_), run in runs]

    def _image(self, index: int) -> tuple[str, Size]:
        person = self.instances[index]
        return person.file_name, person.size

    def _load(self, epoch: int, indices: Sequence[int]) -> Sample:
        """An image with people who are all in it."""
        instances = [self.instances[index] for index in indices]
        annotated = annotate(self.read(instances[0]), instances)
        annotated = self.transform(annotated, self._random("transform", epoch, indices[0]))
        same = [instances[place].image_id for place in person_places(instances)]
        people = zip(annotated.people, instances, same, indices, strict=True)
        return Sample(
            image=image_tensor(annotated.image),
            original_size=instances[0].size,
            people=tuple(
                PersonSample(
                    prompt=self.prompt(person, self._random("prompt", epoch, index)),
                    target=make_target(person),
                    image_id=instance.image_id,
                    person_id=person_id,
                    extra_captions=self._extra_captions(person, epoch, index),
                )
                for person, instance, person_id, index in people
            ),
        )

    def _extra_captions(self, person: AnnotatedPerson, epoch: int, index: int) -> tuple[str, ...]:
        count = min(self.num_extra_captions, len(person.captions))
        return tuple(self._random("captions", epoch, index).sample(person.captions, count))

    def _random(self, purpose: str, epoch: int, index: int) -> Random:
        """A stream of its own for every purpose; `Random` hashes the string with SHA-512."""
        return Random(f"{purpose}/{self.seed}/{epoch}/{index}")


class BatchedPeople(Dataset[list[Sample]]):
    """Whole batches of a data set as items, for a sampler that says who is in a batch.

    Args:
        people: the data set.
    """

    def __init__(self, people: RefHumanDataset) -> None:
        self.people = people

    def __getitem__(self, keys: Sequence[SampleKey | int]) -> list[Sample]:
        """The samples of a batch of people."""
        return self.people.__getitems__(keys)
