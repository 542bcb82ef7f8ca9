"""The evaluation's batches: every image as if it were alone in them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch import distributed

from tests.composition import TINY, compose_train
from tests.refhuman_folder import write_refhuman
from uniphd.config.compose import build, build_network
from uniphd.data.loaders import ReferringDataModule
from uniphd.data.samplers import SameCanvasSampler
from uniphd.data.transforms import TrainingTransform
from uniphd.errors import ConfigError
from uniphd.models.build import build_tokenizer
from uniphd.structures import Instances
from uniphd.training.module import RefHumanModule

# Processors round sums of other batches differently. Of a network that is not trained, about one in
# 100,000 mask logits is so close to 0 that it falls to the other side; it is 1e-6 of an IoU here.
_PIXELS = 1e-5
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve people in six images of different sizes."""
    return write_refhuman(tmp_path_factory.mktemp("mixed"), 24, seed=3)


class Setup:
    """A small network and the data that it is evaluated on, for one choice of batches."""

    def __init__(self, folder: Path, *options: str) -> None:
        config = compose_train(
            None,
            *TINY,
            f"data.root={folder}",
            "data.eval_transform.size=80",
            "data.eval_transform.max_size=128",
            "data.val_prompts=[text,scribble]",
            "optim.scheduler.total_steps=1",
            *options,
        )
        torch.manual_seed(0)
        network, model_config = build_network(config)
        self.module: RefHumanModule = build(
            config.module, model=network, criterion=None, model_config=model_config
        )
        self.data: ReferringDataModule = build(
            config.data, tokenize=build_tokenizer(model_config.tokenizer)
        )
        self.trainer = Trainer(accelerator="cpu", devices=1, enable_checkpointing=False, **QUIET)

    def validate(self, reverse: bool = False) -> dict[str, dict[str, float]]:
        """The metrics, with people in their order or from the last to the first."""
        self.data.setup("validate")
        if reverse:
            self.data.val_instances = self.data.val_instances[::-1]
        self.trainer.validate(self.module, datamodule=self.data, verbose=False)
        return self.module.results

    def predict(self) -> dict[tuple[int, int], Instances]:
        """Detections by prompt kind and image id."""
        predictions = self.trainer.predict(self.module, datamodule=self.data) or []
        return {
            (kind, image_id): detections
            for kind, (batches, loader) in enumerate(
                zip(predictions, self.data.val_dataloader(), strict=True)
            )
            for found, batch in zip(batches, loader, strict=True)
            for image_id, detections in zip(batch.image_ids, found, strict=True)
        }


def farthest(
    first: dict[tuple[int, int], Instances], second: dict[tuple[int, int], Instances]
) -> float:
    """The largest difference between two predictions' scores."""
    return max((first[key].scores - second[key].scores).abs().max().item() for key in first)


@pytest.fixture(scope="module")
def one_by_one(mixed: Path) -> Setup:
    """Evaluated with one person per batch."""
    return Setup(mixed, "data.val_batch_size=1")


@pytest.mark.parametrize(("size", "reverse"), [(4, False), (16, False), (16, True)])
def test_metrics_do_not_depend_on_the_batch(
    mixed: Path, one_by_one: Setup, size: int, reverse: bool
) -> None:
    expected = one_by_one.validate()
    found = Setup(mixed, f"data.val_batch_size={size}").validate(reverse)
    assert found.keys() == expected.keys() == {"text", "scribble"}
    for kind, metrics in expected.items():
        assert found[kind] == pytest.approx(metrics, abs=_PIXELS, nan_ok=True)
    assert expected["text"]["mIoU"] > 0


def test_predictions_do_not_depend_on_the_batch(mixed: Path, one_by_one: Setup) -> None:
    expected = one_by_one.predict()
    found = Setup(mixed, "data.val_batch_size=16").predict()
    padded = Setup(mixed, "data.val_batch_size=16", "data.val_batching=official").predict()
    assert found.keys() == padded.keys() == expected.keys()
    assert len(found) == 2 * 12
    assert farthest(found, expected) < 1e-5
    assert farthest(padded, expected) > 1e-3


def test_the_official_batch_is_padded_to_its_largest_image(mixed: Path) -> None:
    official = Setup(mixed, "data.val_batch_size=16", "data.val_batching=official").data
    official.setup("validate")
    (batch,) = official.val_dataloader()[0]
    assert list(batch.image_ids) == [person.image_id for person in official.val_instances]
    alone = Setup(mixed, "data.val_batch_size=16").data
    alone.setup("validate")
    canvases = [tuple(batch.images.shape[-2:]) for batch in alone.val_dataloader()[0]]
    assert len(set(canvases)) == len(canvases) > 1
    assert max(height for height, _ in canvases) == batch.images.shape[-2]
    assert max(width for _, width in canvases) == batch.images.shape[-1]


def test_people_of_an_image_share_it(mixed: Path) -> None:
    data = Setup(mixed, "data.val_batch_size=16").data
    data.setup("validate")
    batches = list(data.val_dataloader()[0])
    assert sum(len(batch) for batch in batches) == 12
    assert sum(len(batch.images) for batch in batches) == 6


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Be each of three processes in turn."""
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)

    def each() -> Iterator[int]:
        for rank in range(3):
            monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
            yield rank

    return each()


def test_processes_share_the_batches_of_one(ranks: Iterator[int]) -> None:
    canvases = [(32, 64), (64, 32), (32, 64), (32, 32), (32, 64), (64, 32), (32, 64), (64, 64)]
    whole = [[0, 2], [1, 5], [3], [4, 6], [7]]
    shares = [
        [[key.instance for key in batch] for batch in SameCanvasSampler(canvases, 2)] for _ in ranks
    ]
    assert [len(share) for share in shares] == [2, 2, 2]  # as many collectives in each
    assert sorted(batch for share in shares for batch in share) == sorted([*whole, whole[0]])


def test_what_cannot_be_batched_is_refused(mixed: Path) -> None:
    with pytest.raises(ConfigError, match="val_batching is 'padded'; give alone or official"):
        Setup(mixed, "data.val_batching=padded")
    data = Setup(mixed).data
    arguments = {"root": mixed, "tokenize": None, "prompt_sampler": None, "train_transform": None}
    with pytest.raises(ConfigError, match="TrainingTransform as eval_transform has no output_size"):
        type(data)(**arguments, eval_transform=TrainingTransform())
    type(data)(**arguments, eval_transform=TrainingTransform(), val_batching="official")


def test_a_limited_validation_is_of_those_it_saw(
    mixed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limited = Setup(mixed, "data.val_batch_size=4")
    limited.trainer.limit_val_batches = 2
    with caplog.at_level(logging.INFO):
        metrics = limited.validate()
    said = [text for text in caplog.messages if "validated" in text]
    assert said == [
        "validated 6 of 12 people (trainer.limit_val_batches=2); the metrics are of them"
    ]
    seen = {key for key, _ in limited.module.evaluators["text"].results}
    expected = Setup(mixed, "data.val_batch_size=4")
    expected.data.setup("validate")
    people = expected.data.val_instances
    expected.data.val_instances = tuple(p for p in people if p.image_id in seen)
    expected.data.val_distractors = tuple(p for p in people if p.image_id not in seen)
    assert metrics["text"] == pytest.approx(expected.validate()["text"], abs=1e-6, nan_ok=True)
    assert [text for text in caplog.messages if "validated" in text] == said
