"""`data=synthetic`: the same samples as from files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.composition import compose_train
from tests.equality import differences
from tests.synthetic.conftest import SMALL
from uniphd.config.compose import build
from uniphd.data.datamodule import RefHumanDataModule
from uniphd.data.transforms import EvaluationTransform, TrainingTransform
from uniphd.errors import ConfigError
from uniphd.prompts import PromptSampler
from uniphd.structures import Batch
from uniphd.synthetic.appearance import HELD_OUT
from uniphd.synthetic.datamodule import SyntheticDataModule

Tokenizer = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
NUMBERS: dict[str, Any] = {
    "train_scenes": 6,
    "val_scenes": 3,
    "size": SMALL.size,
    "people": SMALL.people,
    "scene_seed": SMALL.seed,
    "num_render_workers": 1,
}


def loading(tokenize: Tokenizer, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "tokenize": tokenize,
        "train_transform": TrainingTransform((80, 96), 96, crop_scales=(96,), crop_size=(60, 96)),
        "eval_transform": EvaluationTransform(96, 96),
        "prompt_sampler": PromptSampler(),
        "num_workers": 0,
        "seed": 1,
        "val_prompts": ("text", "scribble"),
    }
    return {**settings, **changes}


@pytest.mark.parametrize(
    ("split", "file"),
    [
        ("seen", "RefHuman_val.json"),
        ("seen_pairs", "RefHuman_val_seen_pairs.json"),
        ("unseen", "RefHuman_val_unseen.json"),
    ],
)
def test_batches_are_those_of_the_files(
    split: Any, file: str, synthetic_folder: Path, tokenize: Tokenizer
) -> None:
    drawn = SyntheticDataModule(**NUMBERS, split=split, **loading(tokenize))
    read = RefHumanDataModule(synthetic_folder, val_file=file, **loading(tokenize))
    for data in (drawn, read):
        data.setup("fit")
    for epoch in (0, 1):
        loaders = [data.train_dataloader() for data in (drawn, read)]
        for loader in loaders:
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        batches = [list(loader) for loader in loaders]
        assert isinstance(batches[0][0], Batch)
        assert differences(*batches) == []
    for ours, theirs in zip(drawn.val_dataloader(), read.val_dataloader(), strict=True):
        assert differences(list(ours), list(theirs)) == []


def test_validating_draws_no_training_scenes(tokenize: Tokenizer) -> None:
    data = SyntheticDataModule(**NUMBERS, split="unseen", **loading(tokenize))
    data.setup("validate")
    assert data.train_instances == ()
    assert len(data.val_instances) == 3
    assert {person.file_name for person in data.val_distractors} == {
        person.file_name for person in data.val_instances
    }
    before = data.val_instances
    data.setup("validate")
    assert data.val_instances is before
    for person in data.val_instances:
        assert any(
            shirt in person.caption and bottom in person.caption for shirt, bottom in HELD_OUT
        )


def test_loading_processes_see_the_images(tokenize: Tokenizer) -> None:
    data = SyntheticDataModule(**NUMBERS, **loading(tokenize))
    workers = SyntheticDataModule(**NUMBERS, **loading(tokenize, num_workers=1))
    for module in (data, workers):
        module.setup("fit")
    batches = [list(module.train_dataloader()) for module in (data, workers)]
    assert differences(*batches) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_scenes": 0}, "train_scenes is 0"),
        ({"val_scenes": 2_000_000}, "More than 1000000 scenes"),
        ({"split": "test"}, "split is 'test'; choose from seen, seen_pairs, unseen"),
        ({"size": (96,)}, "size is"),
        ({"people": (0, 2)}, "0 to 2 people"),
    ],
)
def test_settings_that_cannot_be_drawn(
    changes: dict[str, Any], message: str, tokenize: Tokenizer
) -> None:
    with pytest.raises(ConfigError, match=message):
        SyntheticDataModule(**{**NUMBERS, **changes}, **loading(tokenize))


def test_the_configuration_builds_it(tokenize: Tokenizer) -> None:
    config = compose_train(
        None,
        "experiment=tiny_refhuman",
        "data=synthetic",
        "data.train_scenes=2",
        "data.val_scenes=1",
        "data.num_render_workers=1",
        "data.num_workers=0",
    )
    data: SyntheticDataModule = build(config.data, tokenize=tokenize)
    data.setup("fit")
    (batch, *_) = list(data.train_dataloader())
    assert batch.images.shape[-2:] == (config.data.eval_transform.size,) * 2
    assert len(data.val_dataloader()) == len(config.data.val_prompts)
