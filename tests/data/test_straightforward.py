"""The training data is what the most direct way of making it gives, bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from benchmarks.straightforward import PlainBatch, PlainCollate, PlainPeople
from tests.equality import differences
from uniphd.data.datamodule import RefHumanDataModule
from uniphd.data.dataset import SampleKey
from uniphd.data.transforms import EvaluationTransform, TrainingTransform
from uniphd.models.backbone import normalise
from uniphd.prompts import PromptSampler
from uniphd.structures import Batch

# What pycocotools does when it draws a mask.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Tokenizer = Callable[[Sequence[str]], tuple[Tensor, Tensor]]


def people_of(
    root: Path, tokenize: Tokenizer, transform: TrainingTransform, seed: int = 0
) -> RefHumanDataModule:
    data = RefHumanDataModule(
        root,
        tokenize=tokenize,
        train_transform=transform,
        eval_transform=EvaluationTransform(),
        prompt_sampler=PromptSampler(text=0.25, point=0.25, scribble=0.25, box=0.25),
        num_workers=0,
        seed=seed,
    )
    data.setup("fit")
    return data


def same_batches(
    data: RefHumanDataModule, tokenize: Tokenizer, draws: list[SampleKey]
) -> list[Batch]:
    """The batches of four draws each, after comparing them with the direct way's."""
    loader = data.train_dataloader()
    plain, plain_collate = PlainPeople(data), PlainCollate(tokenize)
    batches = []
    for start in range(0, len(draws), 4):
        some = draws[start : start + 4]
        batch = loader.collate_fn([loader.dataset[draw] for draw in some])
        require_same(batch, plain_collate([plain[draw] for draw in some]))
        batches.append(batch)
    return batches


def require_same(batch: Batch, plain: PlainBatch) -> None:
    """Every number is equal, the normalised images included."""
    padding_mask, prompts = batch.padding_mask, batch.prompts
    images = normalise(batch.images, padding_mask, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    assert batch.image_index == tuple(range(len(plain.images)))
    assert torch.equal(images, plain.images)
    assert torch.equal(padding_mask, plain.padding_mask)
    for target, expected in zip(batch.targets, plain.targets, strict=True):
        for field in fields(target):
            value = getattr(target, field.name)
            if field.name == "masks":
                height, width = expected["masks"].shape[1:]
                assert value.sum() == expected["masks"].sum()
                value = value[:, :height, :width]
            assert torch.equal(value, expected[field.name]), field.name
            assert value.dtype == expected[field.name].dtype, field.name
    assert prompts.kinds == plain.prompts.kinds
    blocks, expected_blocks = (
        {kind: vars(block) for kind, block in some.blocks.items()}
        for some in (prompts, plain.prompts)
    )
    assert differences(blocks, expected_blocks) == []


def test_drawn_people(folder: Path, tokenize: Tokenizer) -> None:
    transform = TrainingTransform((48, 64, 80), 100, crop_scales=(60, 80), crop_size=(40, 70))
    data = people_of(folder, tokenize, transform)
    draws = [SampleKey(epoch, item) for epoch in range(12) for item in range(8)]
    batches = same_batches(data, tokenize, draws)
    sizes = {size for batch in batches for size in batch.sizes}
    kinds = {kind for batch in batches for kind in batch.prompts.kinds}
    assert len(sizes) > 20  # cropped ones are all different
    assert len(kinds) == 4


def test_other_pixel_values_are_noticed(folder: Path, tokenize: Tokenizer) -> None:
    data = people_of(folder, tokenize, TrainingTransform((48,), 100))
    loader = data.train_dataloader()
    draws = [SampleKey(0, item) for item in range(4)]
    batch = loader.collate_fn([loader.dataset[draw] for draw in draws])
    plain = PlainCollate(tokenize)([PlainPeople(data)[draw] for draw in draws])
    require_same(batch, plain)
    batch.images[0, 1, 3, 4] ^= 1
    with pytest.raises(AssertionError):
        require_same(batch, plain)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_real_people(refhuman_mini: Path, tokenize: Tokenizer, seed: int) -> None:
    data = people_of(refhuman_mini, tokenize, TrainingTransform(), seed)
    same_batches(
        data, tokenize, [SampleKey(seed, item) for item in range(len(data.train_instances))]
    )
