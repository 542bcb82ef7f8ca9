"""Which people an epoch has in which order, for every process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from random import Random
from typing import Any

from torch import distributed
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from uniphd.data.dataset import RefHumanDataset, Sample, SampleKey
from uniphd.errors import ConfigError
from uniphd.structures import Size


class EpochSampler(DistributedSampler[Any]):
    """Indices together with their epoch, so that persistent workers learn of it.

    Every process takes its share, with a few repeated where the number does not divide. Lightning
    recognises a `DistributedSampler`: it keeps it in a distributed run and calls `set_epoch`.

    Args:
        dataset: what the indices are of.
        shuffle: whether to permute, differently in every epoch.
        seed: of the permutation, the same in every process.

    Attributes:
        skip: how many of an epoch's first people are left out, when it is resumed in the middle.
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

    def __iter__(self) -> Iterator[SampleKey]:
        """This process's people of the epoch that `set_epoch` named."""
        for index in islice(self._order(), self.skip, None):
            yield SampleKey(self.epoch, index)

    def share(self, people: int, processes: int) -> int:
        """How many of this process's people are among those whom an epoch began with.

        Args:
            people: of all processes together.
            processes: that took them.
        """
        return min(people // self.num_replicas, len(self))

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

    def share(self, people: int, processes: int) -> int:
        """The same; every process has a range of people, which depends on how many processes are.

        Raises:
            ConfigError: there were more or fewer processes.
        """
        if processes != self.num_replicas:
            raise ConfigError(
                f"The checkpoint is in the middle of an epoch of {processes} processes, which "
                f"data.group_by_image=true cannot divide among {self.num_replicas}; resume with as "
                "many processes, or from a checkpoint between two epochs."
            )
        return super().share(people, processes)

    def _order(self) -> Iterator[int]:
        """This process's indices of the whole epoch; neighbouring ones."""
        order = list(range(len(self._images)))
        if self.shuffle:
            Random(f"images/{self.seed}/{self.epoch}").shuffle(order)
        people = [index for place in order for index in self._images[place]]
        people = list(islice(cycle(people), self.total_size))  # every process as many
        first = self.rank * self.num_samples
        return iter(people[first : first + self.num_samples])


class SameCanvasSampler(EpochSampler):
    """Whole batches of people, in each of them images of one canvas; for the evaluation.

    No image is padded to the size of another one, so the network sees each as if it were alone,
    whatever the size of the batches and the number of processes. (Padding reaches the backbone's
    windows and the neck's GroupNorm.) People keep their order within a canvas, and those of an
    image who follow each other stay neighbours. The processes share the batches.

    Args:
        canvases: (height, width) for every person.
        batch_size: people per batch; fewer where no more have the canvas.
    """

    def __init__(self, canvases: Sequence[Size], batch_size: int) -> None:
        self._batches: list[list[int]] = []
        filling: dict[Size, list[int]] = {}
        for index, canvas in enumerate(canvases):
            batch = filling.setdefault(canvas, [])
            if not batch:
                self._batches.append(batch)
            batch.append(index)
            if len(batch) == batch_size:
                del filling[canvas]
        super().__init__(self._batches, shuffle=False)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[SampleKey]]:  # type: ignore[override]
        """This process's batches."""
        for place in islice(self._order(), self.skip, None):
            yield [SampleKey(self.epoch, index) for index in self._batches[place]]
