"""Samples: the same for the same (seed, epoch, index), whoever loads them."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader

from uniphd.data.annotations import ReferredPerson
from uniphd.data.dataset import RefHumanDataset, Sample, SampleKey
from uniphd.data.images import ImageFolder
from uniphd.data.samplers import EpochSampler, ImageGroupSampler
from uniphd.data.transforms import EvaluationTransform, TrainingTransform
from uniphd.errors import ImageError
from uniphd.prompts import FixedPrompt, PromptSampler


def make_dataset(folder: Path, people: Sequence[ReferredPerson], seed: int = 0) -> RefHumanDataset:
    transform = TrainingTransform((48, 64, 80), 100, crop_scales=(60, 80), crop_size=(40, 70))
    return RefHumanDataset(people, ImageFolder(folder / "images"), transform, PromptSampler(), seed)


def numbers(sample: Sample) -> list[Tensor]:
    """Every tensor of a sample."""
    (person,) = sample.people
    target = person.target
    prompt = [value for value in vars(person.prompt).values() if isinstance(value, Tensor)]
    return [sample.image, target.boxes, target.keypoints, target.visibility, target.masks, *prompt]


def same(first: Sample, second: Sample) -> bool:
    pairs = zip(numbers(first), numbers(second), strict=True)
    (one,), (other,) = first.people, second.people
    return (
        one.image_id == other.image_id
        and one.prompt.kind == other.prompt.kind
        and getattr(one.prompt, "text", "") == getattr(other.prompt, "text", "")
        and all(torch.equal(*pair) for pair in pairs)
    )


def first_of_batch(samples: list[Sample]) -> Sample:
    return samples[0]


@pytest.fixture
def dataset(folder: Path, people: tuple[ReferredPerson, ...]) -> RefHumanDataset:
    """The drawn people with small augmentation and all prompts of the paper."""
    return make_dataset(folder, people)


def test_a_sample_has_the_networks_types(folder: Path, people: tuple[ReferredPerson, ...]) -> None:
    dataset = RefHumanDataset(
        people,
        ImageFolder(str(folder / "images")),
        EvaluationTransform(80, 100),
        FixedPrompt("point"),
    )
    sample = dataset[3]
    height, width = sample.image.shape[1:]
    assert sample.image.dtype == torch.uint8
    assert max(height, width) <= 100
    assert sample.people[0].target.masks.shape == (1, height, width)
    assert sample.people[0].target.keypoints.shape == (1, 17, 2)
    assert len(sample.people[0].target) == 1
    assert sample.people[0].image_id == people[3].image_id
    assert sample.original_size == people[3].size
    assert sample.people[0].prompt.kind == "point"
    assert len(dataset) == 8


def test_a_draw_depends_on_seed_epoch_and_index(
    folder: Path, people: tuple[ReferredPerson, ...], dataset: RefHumanDataset
) -> None:
    twin = make_dataset(folder, people)
    other_seed = make_dataset(folder, people, seed=1)
    for index in range(8):
        assert same(dataset[SampleKey(3, index)], twin[SampleKey(3, index)])
        assert same(dataset[index], twin[SampleKey(0, index)])
    changed_epoch = [
        same(dataset[SampleKey(0, index)], dataset[SampleKey(1, index)]) for index in range(8)
    ]
    changed_seed = [same(dataset[index], other_seed[index]) for index in range(8)]
    assert sum(changed_epoch) <= 1
    assert sum(changed_seed) <= 1


def test_captions_are_the_persons_own_each_once_and_drawn_anew(
    folder: Path, people: tuple[ReferredPerson, ...]
) -> None:
    person = replace(people[0], other_captions=("the man", "the tall one", "he"))
    own = {person.caption, *person.other_captions}

    def draw(epoch: int, count: int) -> tuple[str, ...]:
        read, transform = ImageFolder(folder / "images"), EvaluationTransform(60)
        dataset = RefHumanDataset(
            [person], read, transform, PromptSampler(), num_extra_captions=count
        )
        return dataset[SampleKey(epoch, 0)].people[0].extra_captions

    drawn = [draw(epoch, 2) for epoch in range(30)]
    assert all(len(set(captions)) == 2 for captions in drawn)
    assert {caption for captions in drawn for caption in captions} == own
    assert drawn == [draw(epoch, 2) for epoch in range(30)]
    assert set(draw(0, 9)) == own
    assert draw(0, 0) == ()


def test_prompts_do_not_hang_on_the_augmentation(
    folder: Path, people: tuple[ReferredPerson, ...], dataset: RefHumanDataset
) -> None:
    plain = RefHumanDataset(
        people, ImageFolder(folder / "images"), EvaluationTransform(60), PromptSampler()
    )
    draws = [SampleKey(epoch, index) for epoch in range(4) for index in range(8)]
    kinds = [dataset[draw].people[0].prompt.kind for draw in draws]
    assert [plain[draw].people[0].prompt.kind for draw in draws] == kinds
    assert len(Counter(kinds)) == 3


def epochs(dataset: RefHumanDataset, workers: int, first: int = 0) -> list[list[Sample]]:
    """The samples of three epochs, from one loader whose workers stay."""
    sampler = EpochSampler(dataset, shuffle=True, seed=5)
    loader = DataLoader(
        dataset,
        batch_size=1,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=first_of_batch,
    )
    results = []
    for epoch in range(first, 3):
        sampler.set_epoch(epoch)
        results.append(list(loader))
    return results


def test_persistent_workers_draw_what_the_main_process_draws(dataset: RefHumanDataset) -> None:
    alone, together = epochs(dataset, 0), epochs(dataset, 2)
    for one, other in zip(alone, together, strict=True):
        assert all(map(same, one, other))
    orders = [[sample.people[0].image_id for sample in samples] for samples in together]
    assert len({tuple(order) for order in orders}) == 3
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(1, 9))}
    # Persistent workers that never hear of the epoch would repeat the draws of the first one.
    by_id = [{sample.people[0].image_id: sample for sample in samples} for samples in together]
    assert sum(same(by_id[0][number], by_id[2][number]) for number in by_id[0]) <= 1


def test_a_resumed_run_draws_what_the_interrupted_one_would_have(dataset: RefHumanDataset) -> None:
    whole, resumed = epochs(dataset, 0), epochs(dataset, 0, first=2)
    assert all(map(same, whole[2], resumed[0]))


def test_a_dataset_travels_to_spawned_workers(dataset: RefHumanDataset) -> None:
    copy: RefHumanDataset = pickle.loads(pickle.dumps(dataset))
    assert same(copy[SampleKey(2, 5)], dataset[SampleKey(2, 5)])


def test_loading_leaves_the_global_random_numbers_alone(dataset: RefHumanDataset) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    _ = [dataset[index] for index in range(4)]
    assert torch.equal(torch.rand(3), expected)


def test_a_missing_image_is_named(dataset: RefHumanDataset, folder: Path) -> None:
    (folder / "images" / dataset.instances[0].file_name).unlink()
    with pytest.raises(ImageError, match="does not exist"):
        dataset[0]


def test_without_shuffling_the_order_is_the_records(dataset: RefHumanDataset) -> None:
    sampler = EpochSampler(dataset, shuffle=False)
    sampler.set_epoch(4)
    assert list(sampler) == [(4, index) for index in range(8)]
    assert len(sampler) == 8


def test_processes_share_an_epoch(
    dataset: RefHumanDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(name: str, value: Any) -> None:
        monkeypatch.setattr(distributed, name, lambda *_: value)

    pretend("is_initialized", True)
    pretend("get_world_size", 3)
    shares = []
    for rank in range(3):
        pretend("get_rank", rank)
        sampler = EpochSampler(dataset, shuffle=True, seed=1)
        sampler.set_epoch(2)
        shares.append([draw.instance for draw in sampler])
        assert {draw.epoch for draw in sampler} == {2}
    assert [len(share) for share in shares] == [3, 3, 3]
    assert set().union(*shares) == set(range(8))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_process_has_as_many_samples_as_the_others(
    dataset: RefHumanDataset, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    few = RefHumanDataset(
        dataset.instances[:count], dataset.read, dataset.transform, dataset.prompt
    )
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        sampler = ImageGroupSampler(few, shuffle=True)
        assert len(list(sampler)) == len(sampler) == -(-count // 3)


def test_people_of_an_image_stay_together(
    dataset: RefHumanDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b", "a", "c", "b", "a", "d", "d"]
    people = [replace(p, file_name=n) for p, n in zip(dataset.instances, names, strict=True)]
    shared = RefHumanDataset(people, dataset.read, dataset.transform, dataset.prompt)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    orders = []
    for epoch in range(6):
        shares = []
        for rank in range(3):
            monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
            sampler = ImageGroupSampler(shared, shuffle=True, seed=3)
            sampler.set_epoch(epoch)
            draws = list(sampler)
            assert len(draws) == len(sampler) == 3
            assert {draw.epoch for draw in draws} == {epoch}
            shares.append([draw.instance for draw in draws])
        order = [item for share in shares for item in share]
        assert set(order) == set(range(8))  # and one of them twice
        orders.append(tuple(name for name, _ in groupby(names[item] for item in order[:8])))
        assert sorted(orders[-1]) == ["a", "b", "c", "d"]
    assert len(set(orders)) > 1
