"""People of an image in one sample: they share it, and all else stays as it is for one person."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed
from torch.nn.utils.rnn import pad_sequence

from uniphd.data.annotations import ReferredPerson
from uniphd.data.collate import Collate
from uniphd.data.dataset import RefHumanDataset, Sample, SampleKey
from uniphd.data.images import ImageFolder
from uniphd.data.loaders import ReferringDataModule
from uniphd.data.sample import AnnotatedImage, annotate
from uniphd.data.samplers import ImageGroupSampler
from uniphd.data.transforms import EvaluationTransform, TrainingTransform
from uniphd.losses.auxiliary.base import AuxiliaryInputs
from uniphd.losses.auxiliary.grounding import GroundingLoss
from uniphd.losses.targets import stack_targets
from uniphd.models.outputs import GroundingPrediction, TokenPredictions
from uniphd.models.tokenizer import HashTokenizer
from uniphd.prompts import FixedPrompt, PromptBatch, PromptSampler
from uniphd.structures import Batch, Target
from uniphd.synthetic.datamodule import SyntheticDataModule

FROZEN = json.loads((Path(__file__).parent / "frozen_samples.json").read_text())
AUGMENT = TrainingTransform((80, 96), 96, crop_scales=(96, 110), crop_size=(60, 96))


def data_module(**changes: Any) -> SyntheticDataModule:
    settings: dict[str, Any] = {
        "tokenize": HashTokenizer(),
        "train_transform": AUGMENT,
        "eval_transform": EvaluationTransform(96, 96),
        "prompt_sampler": PromptSampler(text=0.3, point=0.2, scribble=0.3, box=0.2),
        "num_workers": 0,
        "seed": 1,
        "batch_size": 5,
        "val_batch_size": 5,
        "num_extra_captions": 2,
        **changes,
    }
    data = SyntheticDataModule(8, 4, size=(96, 96), people=(2, 4), scene_seed=3, **settings)
    data.setup("fit")
    return data


def batches(data: ReferringDataModule, epoch: int) -> list[Batch]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return list(loader)


def checksum(values: Iterable[Any]) -> int:
    total = 0
    for value in values:
        tensor = isinstance(value, Tensor)
        part = value.contiguous().numpy().tobytes() if tensor else repr(value).encode()
        total = zlib.crc32(part, total)
    return total


def target_parts(target: Target) -> tuple[Tensor, ...]:
    return target.boxes, target.keypoints, target.visibility, target.area, target.masks


def sample_checksum(sample: Sample) -> int:
    (person,) = sample.people
    words = person.image_id, sample.original_size, person.extra_captions
    prompt = person.prompt.kind, *vars(person.prompt).values()
    return checksum([sample.image, *words, *prompt, *target_parts(person.target)])


def earlier_form(prompts: PromptBatch) -> list[Tensor]:
    """Token ids, points of clicks and scribbles in one block, and boxes."""
    blocks: dict[str, dict[str, Tensor]] = {k: vars(block) for k, block in prompts.blocks.items()}
    rows = {
        row: stroke
        for kind in ("point", "scribble")
        if kind in blocks
        for row, stroke in zip(prompts.rows(kind), blocks[kind]["points"], strict=True)
    }
    strokes = [rows[row] for row in sorted(rows)]
    empty = torch.zeros(0)
    return [
        blocks.get("text", {}).get("input_ids", empty),
        pad_sequence(strokes, batch_first=True) if strokes else empty,
        blocks.get("box", {}).get("boxes", empty),
    ]


def frozen_form(batch: Batch) -> dict[str, Any]:
    prompts, more = batch.prompts, batch.extra_captions
    parts = [batch.images, batch.padding_mask, batch.sizes, batch.original_sizes]
    parts += [prompts.kinds, *earlier_form(prompts)]
    parts += [] if more is None else [more.rows, more.prompts.input_ids]
    parts += [part for target in batch.targets for part in target_parts(target)]
    return {
        "image_ids": list(batch.image_ids),
        "image_index": list(batch.image_index),
        "checksum": checksum(parts),
    }


def test_samples_of_one_person_are_those_of_earlier_versions() -> None:
    dataset = data_module().train_dataloader().dataset
    assert isinstance(dataset, RefHumanDataset)
    found = [
        sample_checksum(dataset[SampleKey(epoch, index)])
        for epoch in range(3)
        for index in range(len(dataset))
    ]
    assert found == FROZEN["samples"]


def test_batches_without_augmentation_are_those_of_earlier_versions() -> None:
    data = data_module(group_by_image=True, train_transform=EvaluationTransform(96, 96))
    for epoch, expected in FROZEN["grouped"].items():
        assert [frozen_form(batch) for batch in batches(data, int(epoch))] == expected
    found = [frozen_form(batch) for batch in data.val_dataloader()[1]]
    assert found == FROZEN["validation"]


def test_people_of_an_image_share_one_augmented_image() -> None:
    data = data_module(group_by_image=True)
    names = {person.image_id: person.file_name for person in data.train_instances}
    sizes = set()
    for epoch in range(3):
        for batch in batches(data, epoch):
            shown = [names[number] for number in batch.image_ids]
            rows = dict(zip(shown, batch.image_index, strict=True))
            assert len(batch.images) == len(rows) < len(batch)
            assert [rows[name] for name in shown] == list(batch.image_index)
            assert all(target.masks.any() for target in batch.targets)
            sizes |= set(batch.sizes)
    assert len(sizes) > 8  # some are cropped


def image_with(people: tuple[ReferredPerson, ...], folder: Path) -> AnnotatedImage:
    image = ImageFolder(folder / "images")(people[0])
    return annotate(image, people)


def test_every_crop_shows_everybody_and_moves_them_alike(
    folder: Path, people: tuple[ReferredPerson, ...]
) -> None:
    transform = TrainingTransform(
        (64, 80), 120, crop_scales=(80, 100), crop_size=(50, 90), crop_probability=1.0
    )
    both = image_with(people[:2], folder)
    cropped = 0
    for number in range(40):
        result = transform(both, Random(number))
        assert all(person.is_shown and person.size == result.size for person in result.people)
        # The same window as if either was alone with it, if both accept it at once.
        alone = [transform(annotate(both.image, [p]), Random(number)) for p in people[:2]]
        if alone[0].image.tobytes() == alone[1].image.tobytes():
            assert result.image.tobytes() == alone[0].image.tobytes()
            for person, single in zip(result.people, alone, strict=True):
                assert torch.equal(person.keypoints, single.people[0].keypoints)
                assert torch.equal(person.mask, single.people[0].mask)
                assert person.caption == single.people[0].caption
        cropped += result.size[1] / result.size[0] != pytest.approx(
            both.size[1] / both.size[0], rel=0.02
        )
    assert cropped > 10


def test_the_contrastive_loss_over_people_is_learned_with_augmentation() -> None:
    loss = GroundingLoss(weight=1, contrastive_weight=1.0, levels=(0,))
    plain = GroundingLoss(weight=1, levels=(0,))
    for group, learned in ((True, True), (False, False)):
        batch = batches(data_module(group_by_image=group), 0)[0]
        height, width = batch.images.shape[-2:]
        shape = (height // 8, width // 8)
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(len(batch), shape[0] * shape[1], generator=generator)
        prediction = GroundingPrediction(
            logits=logits.requires_grad_(),
            shapes=(shape,),
            padding=torch.zeros_like(logits, dtype=torch.bool),
            rows=torch.arange(len(batch)),
        )
        inputs = AuxiliaryInputs(
            tokens=TokenPredictions(None, prediction, None, (height, width)),
            targets=batch.targets,
            stacked=stack_targets(batch.targets, torch.ones(17)),
            image_index=batch.image_index,
            person_ids=batch.person_ids,
            model=None,
            num_instances=1,
        )
        contrast = loss(inputs) - plain(inputs)
        assert (contrast.item() > 0.01) == learned


def test_a_person_in_two_rows_is_one_person_of_the_batch(
    people: tuple[ReferredPerson, ...], folder: Path
) -> None:
    a, b = people[:2]
    hidden = replace(a, image_id=90, keypoints=np.minimum(a.keypoints, np.float32([1e3, 1e3, 1])))
    dataset = RefHumanDataset(
        [a, b, hidden, people[2]],
        ImageFolder(folder / "images"),
        EvaluationTransform(64, 64),
        FixedPrompt("text"),
        group_by_image=True,
    )
    batch = Collate(HashTokenizer())(dataset.__getitems__([0, 1, 2, 3]))
    assert batch.image_ids == (1, 2, 90, 3)
    assert batch.person_ids == (1, 2, 1, 3)
    assert batch.image_index == (0, 0, 0, 1)


def test_processes_take_equal_shares_and_nobody_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_module(group_by_image=True)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    seen, sizes = set(), []
    for rank in range(3):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        share = batches(data, 2)
        sizes.append([len(batch) for batch in share])
        seen |= {number for batch in share for number in batch.image_ids}
    assert sizes == [[5, 3]] * 3
    assert seen == {person.image_id for person in data.train_instances}


def test_an_epoch_goes_on_in_the_middle() -> None:
    data = data_module(group_by_image=True)
    whole = batches(data, 4)
    for done in (1, 3):
        loader = data.train_dataloader()
        assert isinstance(loader.sampler, ImageGroupSampler)
        loader.sampler.set_epoch(4)
        loader.load_state_dict({"batches": done})  # type: ignore[attr-defined]
        rest = [frozen_form(batch) for batch in loader]
        assert rest == [frozen_form(batch) for batch in whole[done:]]
