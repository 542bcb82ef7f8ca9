"""People without text are asked for by other prompts, and by nothing else."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.data.datamodule import RefHumanDataModule
from uniphd.data.dataset import RefHumanDataset, SampleKey
from uniphd.data.images import ImageFolder
from uniphd.data.sample import annotated_person
from uniphd.data.transforms import EvaluationTransform
from uniphd.errors import AnnotationError, ConfigError, PromptError
from uniphd.prompts import PromptSampler, TextPrompt


def without_text(folder: Path, name: str, *numbers: int) -> None:
    """Take the caption of some people away, as `uniphd-data from-coco` does."""
    path = folder / f"RefHuman_{name}.json"
    content = json.loads(path.read_text())
    for number in numbers:
        del content["images"][number]["caption"]
        content["images"][number]["captions"] = []
    path.write_text(json.dumps(content))


def module(folder: Path, tokenize: Callable[..., Any], **options: Any) -> RefHumanDataModule:
    resize = EvaluationTransform(64, 64)
    given = {"prompt_sampler": PromptSampler(text=0.9, point=0.1), "num_workers": 0, **options}
    return RefHumanDataModule(
        folder, tokenize=tokenize, train_transform=resize, eval_transform=resize, **given
    )


def test_somebody_without_text_is_never_asked_for_by_text(
    people: tuple[ReferredPerson, ...],
) -> None:
    sampler = PromptSampler(text=0.8, point=0.1, scribble=0.1)
    silent = annotated_person(replace(people[0], caption=""))
    kinds = Counter(sampler(silent, Random(n)).kind for n in range(200))
    assert kinds.keys() == {"point", "scribble"}
    assert 70 < kinds["point"] < 130
    with pytest.raises(PromptError, match="has no caption and is to be asked for by text"):
        PromptSampler(text=1.0, point=0.0)(silent, Random(0))


def test_one_of_several_captions_is_drawn_by_seed_epoch_and_index(
    folder: Path, people: tuple[ReferredPerson, ...]
) -> None:
    texts = ("the one in red", "left guy", "he")
    several = [replace(person, caption=texts[0], other_captions=texts[1:]) for person in people]
    resize = EvaluationTransform(64, 64)

    def drawn(seed: int, epoch: int) -> list[str]:
        read, prompt = ImageFolder(folder / "images"), PromptSampler(text=1.0)
        dataset = RefHumanDataset(several, read, resize, prompt, seed)
        prompts = [dataset[SampleKey(epoch, index)].people[0].prompt for index in range(8)]
        assert all(isinstance(prompt, TextPrompt) for prompt in prompts)
        return [prompt.text for prompt in prompts if isinstance(prompt, TextPrompt)]

    assert drawn(0, 0) == drawn(0, 0)
    assert len({tuple(drawn(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert {text for epoch in range(4) for text in drawn(0, epoch)} == set(texts)


def test_only_those_who_are_said_to_have_no_text_may_lack_it(folder: Path) -> None:
    without_text(folder, "train", 0)
    path = folder / "RefHuman_train.json"
    first, second, *_ = load_annotations(path).instances
    assert first.captions == ()
    assert second.captions == (second.caption,)
    content = json.loads(path.read_text())
    del content["images"][1]["caption"]
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="image id 2, annotation id 2: 'caption' is missing"):
        load_annotations(path)
    assert load_annotations(path, text_prompts=False).instances[1].captions == ()


def test_a_mixed_training_takes_everybody(
    folder: Path, tokenize: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    without_text(folder, "train", 0, 3)
    data = module(folder, tokenize, batch_size=8, val_file=None)
    with caplog.at_level(logging.INFO):
        data.setup("fit")
    assert len(data.train_instances) == 8
    assert "2 of 8 people have no caption and are asked for by other prompts alone" in caplog.text
    (batch,) = data.train_dataloader()
    assert len(batch.image_ids) == 8


def test_a_training_on_texts_leaves_people_without_text_out(
    folder: Path, tokenize: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    without_text(folder, "train", 0, 3)
    text = PromptSampler(text=1.0, point=0.0)
    data = module(folder, tokenize, prompt_sampler=text, val_file=None, limit_people=4)
    with caplog.at_level(logging.INFO):
        data.setup("fit")
    assert [person.image_id for person in data.train_instances] == [2, 3, 5, 6]
    assert "2 of 8 people have no caption and are left out" in caplog.text


def test_a_file_without_any_text_is_refused_where_text_is_asked(
    folder: Path, tokenize: Callable[..., Any]
) -> None:
    without_text(folder, "train", *range(8))
    with pytest.raises(ConfigError, match=r"has nobody with a caption.*prompt=spatial"):
        module(folder, tokenize, val_file=None).setup("fit")
    spatial = PromptSampler(point=1.0)
    module(folder, tokenize, prompt_sampler=spatial, val_file=None).setup("fit")


@pytest.mark.parametrize("val_batching", ["alone", "official"])
def test_texts_are_validated_on_those_who_have_one(
    folder: Path, tokenize: Callable[..., Any], val_batching: str
) -> None:
    without_text(folder, "val", 1)
    data = module(folder, tokenize, val_prompts=["text", "point"], val_batching=val_batching)
    data.setup("validate")
    asked = [
        sorted(image_id for batch in loader for image_id in batch.image_ids)
        for loader in data.val_dataloader()
    ]
    everybody = [person.image_id for person in data.val_instances]
    assert asked == [[everybody[0], *everybody[2:]], everybody]
    assert [len(people) for people in data.val_people] == [3, 4]


def test_the_first_of_several_captions_is_validated_and_that_is_said(
    folder: Path, tokenize: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "RefHuman_val.json"
    content = json.loads(path.read_text())
    content["images"][0]["captions"] = [content["images"][0]["caption"], "another"]
    path.write_text(json.dumps(content))
    data = module(folder, tokenize, val_prompts=["text"])
    with caplog.at_level(logging.INFO):
        data.setup("validate")
    assert "1 people have several captions, of which the validation asks the first" in caplog.text
