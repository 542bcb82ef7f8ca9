"""Batches: images top left in a common canvas, padding marked, prompts of any mixture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from uniphd.data.collate import Collate
from uniphd.data.dataset import PersonSample, Sample
from uniphd.errors import PromptError
from uniphd.prompts import (
    BoxPrompt,
    PointPrompt,
    Prompt,
    ScribblePrompt,
    TextPrompt,
)
from uniphd.structures import Target

Tokenizer = Callable[[Sequence[str]], tuple[Tensor, Tensor]]


def sample(height: int, width: int, prompt: Prompt, image_id: int) -> Sample:
    target = Target(
        labels=torch.ones(1, dtype=torch.int64),
        boxes=torch.rand(1, 4),
        keypoints=torch.rand(1, 17, 2),
        visibility=torch.ones(1, 17),
        area=torch.rand(1),
        masks=torch.rand(1, height, width) > 0.5,
    )
    image = torch.randint(1, 256, (3, height, width), dtype=torch.uint8)
    person = PersonSample(prompt, target, image_id, image_id)
    return Sample(image, (2 * height, width), (person,))


def test_images_lie_top_left_in_zeros(tokenize: Tokenizer) -> None:
    samples = [
        sample(30, 40, TextPrompt("a tall man"), 7),
        sample(33, 17, ScribblePrompt(torch.rand(12, 2)), 3),
        sample(5, 48, PointPrompt(torch.tensor([4.0, 2.0])), 9),
        sample(8, 8, BoxPrompt(torch.tensor([1.0, 2.0, 5.0, 6.0])), 1),
    ]
    batch = Collate(tokenize)(samples)
    assert batch.images.shape == (4, 3, 48, 48)
    assert batch.padding_mask.shape == (4, 48, 48)
    for row, one in enumerate(samples):
        height, width = one.image.shape[1:]
        assert torch.equal(batch.images[row, :, :height, :width], one.image)
        assert batch.images[row].sum() == one.image.sum()
        assert not batch.padding_mask[row, :height, :width].any()
        assert batch.padding_mask[row].sum() == 48 * 48 - height * width
        target = one.people[0].target
        masks = batch.targets[row].masks
        assert torch.equal(masks[:, :height, :width], target.masks)
        assert masks.shape == (1, 48, 48)
        assert masks.sum() == target.masks.sum()
        for field in fields(Target)[:-1]:
            value = getattr(batch.targets[row], field.name)
            assert torch.equal(value, getattr(target, field.name))
            assert value.dtype == getattr(target, field.name).dtype
    assert batch.sizes == ((30, 40), (33, 17), (5, 48), (8, 8))
    assert batch.original_sizes == ((60, 40), (66, 17), (10, 48), (16, 8))
    assert batch.image_ids == (7, 3, 9, 1)
    assert batch.prompts.kinds == ("text", "scribble", "point", "box")
    text, scribble, point, box = (vars(block) for block in batch.prompts.blocks.values())
    assert text["input_ids"].tolist() == [[1, 4, 3]]
    assert scribble["points"].shape == (1, 12, 2)
    assert point["points"].tolist() == [[[4, 2]]]
    assert not scribble["padding"].any()
    assert box["boxes"].tolist() == [[1, 2, 5, 6]]


def test_people_of_a_sample_share_its_image(tokenize: Tokenizer) -> None:
    one, other, last = (sample(20, 30, TextPrompt("a man"), number) for number in (1, 2, 3))
    smaller = sample(20, 16, TextPrompt("a man"), 4)
    shared = replace(one, people=one.people + other.people)
    batch = Collate(tokenize)([shared, last, replace(smaller, people=smaller.people * 2), one])
    assert batch.image_index == (0, 0, 1, 2, 2, 3)
    assert batch.images.shape == (4, 3, 32, 32)
    assert torch.equal(batch.images[0, :, :20, :30], one.image)
    assert batch.padding_mask.sum((1, 2)).tolist() == [32 * 32 - 600] * 2 + [32 * 32 - 320, 424]
    assert batch.sizes == ((20, 30),) * 3 + ((20, 16),) * 2 + ((20, 30),)
    assert batch.image_ids == batch.person_ids == (1, 2, 3, 4, 4, 1)
    assert torch.equal(batch.targets[1].boxes, other.people[0].target.boxes)
    assert len(batch) == len(batch.prompts) == len(batch.targets) == 6


def test_captions_know_whom_they_mean(tokenize: Tokenizer) -> None:
    (person,) = sample(20, 30, PointPrompt(torch.ones(2)), 1).people
    man, boy, girl = (
        replace(person, extra_captions=captions) for captions in (("a man", "he"), (), ("a girl",))
    )
    samples = [replace(sample(20, 30, man.prompt, 1), people=p) for p in ((man, boy), (girl,))]
    batch = Collate(tokenize)(samples)
    assert batch.extra_captions is not None
    assert batch.extra_captions.rows == (0, 0, 2)
    expected, _ = tokenize(["a man", "he", "a girl"])
    assert torch.equal(batch.extra_captions.prompts.input_ids, expected)
    assert Collate(tokenize)([replace(samples[1], people=(boy,))]).extra_captions is None


def test_targets_move_in_one_block_per_field(
    tokenize: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [sample(side, 16, TextPrompt("a man"), side) for side in (4, 9, 25)]
    packed = Collate(tokenize)(samples).packed_targets
    moved = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda block: moved.append(block) or block.clone())
    copy = packed.pin_memory()
    assert len(moved) == len(fields(Target))
    for one, other in zip(packed.split(), copy.split(), strict=True):
        for field in fields(Target):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name))
    assert all(block.is_meta for block in vars(packed.to("meta").people).values())


@pytest.mark.parametrize(("side", "canvas"), [(1, 32), (32, 32), (33, 48), (640, 640)])
def test_the_canvas_is_a_multiple_of_sixteen(side: int, canvas: int, tokenize: Tokenizer) -> None:
    batch = Collate(tokenize)([sample(side, 33, TextPrompt("a man"), 1)])
    assert batch.images.shape == (1, 3, canvas, 48)


def test_a_narrow_image_gets_a_canvas_that_the_backbone_can_halve_five_times(
    tokenize: Tokenizer,
) -> None:
    batch = Collate(tokenize)([sample(1, 90, TextPrompt("a man"), 7)])
    assert batch.images.shape == (1, 3, 32, 96)
    assert batch.sizes == ((1, 90),)


def test_a_prompt_outside_of_its_image_is_named(tokenize: Tokenizer) -> None:
    good = sample(30, 40, TextPrompt("a man"), 7)
    lost = sample(30, 40, PointPrompt(torch.tensor([42.0, 3.0])), 9)
    with pytest.raises(
        PromptError, match=r"image id 9: A point prompt at .* outside of its 40 x 30"
    ):
        Collate(tokenize)([good, lost])
