"""One referred person per index: image, prompt and target, as the network takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random
from typing import Any, NamedTuple

from torch import Tensor, distributed
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from uniphd.data.annotations import ReferredPerson
from uniphd.data.images import ReadImage
from uniphd.data.prompts import DrawPrompt
from uniphd.data.sample import Scene, image_tensor, make_scene, make_target
from uniphd.data.transforms import Transform
from uniphd.prompts import Prompt
from uniphd.structures import Size, Target


@dataclass(frozen=True)
class Sample:
    """What the data set returns for one person.

    Attributes:
        image: (3, h, w) uint8 RGB.
        prompt: in pixels of `image`.
        target: of one person.
        image_id: of the annotation file.
        original_size: (height, width) of the image.
        extra_captions: sentences about the person beside the prompt, each different.
    """

    image: Tensor
    prompt: Prompt
    target: Target
    image_id: int
    original_size: Size
    extra_captions: tuple[str, ...] = ()


class Draw(NamedTuple):
    """Which sample, and in which epoch: together with the seed all that a sample depends on."""

    epoch: int
    item: int


class RefHumanDataset(Dataset[Sample]):
    """Referred people with their images.

    A sample depends on (seed, epoch, index) and on nothing else, so any number of workers and a
    resumed run draw the same. `EpochSampler` hands the epoch over with every index.

    Args:
        instances: the people, in the order of the indices.
        read: reads their images.
        transform: changes image and annotation together.
        prompt: draws the prompt.
        seed: of every random number.
        num_extra_captions: how many of the person's sentences, drawn anew, a sample has beside its
            prompt; all of them where there are fewer.
    """

    def __init__(
        self,
        instances: Sequence[ReferredPerson],
        read: ReadImage,
        transform: Transform,
        prompt: DrawPrompt,
        seed: int = 0,
        num_extra_captions: int = 0,
    ) -> None:
        self.instances = tuple(instances)
        self.read = read
        self.transform = transform
        self.prompt = prompt
        self.seed = seed
        self.num_extra_captions = num_extra_captions

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, draw: Draw | int) -> Sample:
        """The sample of an epoch and index; a bare index is taken in epoch 0.

        Raises:
            ImageError: the image is missing or damaged.
        """
        epoch, index = draw if isinstance(draw, tuple) else Draw(epoch=0, item=draw)
        person = self.instances[index]
        scene = make_scene(self.read(person), person)
        scene = self.transform(scene, self._random("transform", epoch, index))
        return Sample(
            image=image_tensor(scene.image),
            prompt=self.prompt(scene, self._random("prompt", epoch, index)),
            target=make_target(scene),
            image_id=person.image_id,
            original_size=person.size,
            extra_captions=self._extra_captions(scene, epoch, index),
        )

    def _extra_captions(self, scene: Scene, epoch: int, index: int) -> tuple[str, ...]:
        every = (scene.caption, *scene.other_captions)
        count = min(self.num_extra_captions, len(every))
        return tuple(self._random("captions", epoch, index).sample(every, count))

    def _random(self, purpose: str, epoch: int, index: int) -> Random:
        """A stream of its own for every purpose; `Random` hashes the string with SHA-512."""
        return Random(f"{purpose}/{self.seed}/{epoch}/{index}")


class EpochSampler(DistributedSampler[Any]):
    """Indices together with their epoch, so that persistent workers learn of it.

    Every process takes its share, with a few repeated where the number does not divide. Lightning
    recognises a `DistributedSampler`: it keeps it in a distributed run and calls `set_epoch`.

    Args:
        dataset: what the indices are of.
        shuffle: whether to permute, differently in every epoch.
        seed: of the permutation, the same in every process.

    Attributes:
        skip: how many of an epoch's first draws are left out, when it is resumed in the middle.
    """

    skip = 0

    def __init__(self, dataset: Dataset[Sample], shuffle: bool, seed: int = 0) -> None:
        running = distributed.is_available() and distributed.is_initialized()
        super().__init__(
            dataset,
            num_replicas=distributed.get_world_size() if running else 1,
            rank=distributed.get_rank() if running else 0,
            shuffle=shuffle,
            seed=seed,
        )

    def __iter__(self) -> Iterator[Draw]:
        """This process's draws of the epoch that `set_epoch` named."""
        for index in islice(self._order(), self.skip, None):
            yield Draw(self.epoch, index)

    def _order(self) -> Iterator[int]:
        """This process's indices of the whole epoch."""
        return super().__iter__()


class ImageGroupSampler(EpochSampler):
    """The same, with the people of an image one after the other, so that they share a batch.

    Asked for several people of one image, a network sees what only the prompt can explain.

    Args:
        dataset: the people.
        shuffle: whether to permute the images, differently in every epoch.
        seed: of the permutation, the same in every process.
    """

    def __init__(self, dataset: RefHumanDataset, shuffle: bool, seed: int = 0) -> None:
        super().__init__(dataset, shuffle, seed)
        all_images: dict[str, list[int]] = {}
        for index, person in enumerate(dataset.instances):
            all_images.setdefault(person.file_name, []).append(index)
        self._images = list(all_images.values())

    def _order(self) -> Iterator[int]:
        """This process's indices of the whole epoch; neighbouring ones."""
        order = list(range(len(self._images)))
        if self.shuffle:
            Random(f"images/{self.seed}/{self.epoch}").shuffle(order)
        people = [index for place in order for index in self._images[place]]
        people = list(islice(cycle(people), self.total_size))  # every process as many
        first = self.rank * self.num_samples
        return iter(people[first : first + self.num_samples])
