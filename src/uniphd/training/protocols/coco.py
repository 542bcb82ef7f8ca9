"""COCO's protocol as the paper has it: a spatial prompt for everybody, results put together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning import LightningModule, Trainer
from rich.table import Table
from torch.utils.data import DataLoader

from uniphd.data.coco_datamodule import CocoDataModule
from uniphd.data.coco_prompts import CocoPrompts, SeededPrompts, read_prompts
from uniphd.data.loaders import ReferringDataModule
from uniphd.data.paths import at_home
from uniphd.data.prompted_images import PromptedImage
from uniphd.errors import ConfigError
from uniphd.inference.detect import detections_of, to_cpu
from uniphd.metrics.coco_evaluator import READINGS, CocoEvaluator
from uniphd.metrics.report import metrics_table, write_metrics, write_results
from uniphd.training.module import RefHumanModule
from uniphd.training.protocols.base import Metrics

SPREAD = "std"
"""What the columns of the standard deviations over several sets of prompts end with."""

_logger = logging.getLogger(__name__)


class CocoProtocol:
    """Evaluates each kind of prompt with each set of prompts, one after the other.

    Memory is that of one of them. The columns of the metrics are `<kind>_<reading>`; with several
    sets, these are means, `<kind>_<reading>_std` are standard deviations, and
    `<kind>_<reading>_<set>` are those of each.

    Args:
        seeds: of the prompts.
        prompts: files of prompts, in place of seeds.

    Raises:
        ConfigError: there is neither, or one is there twice.
    """

    def __init__(self, seeds: Sequence[int] = (0,), prompts: Sequence[str] | None = None) -> None:
        self.seeds = tuple(seeds)
        self.files = tuple(map(at_home, prompts or ()))
        if not self.files and not self.seeds:
            raise ConfigError("protocol.seeds is empty; give at least one, or protocol.prompts.")
        for key, names in (("seeds", self.seeds), ("prompts", [f.stem for f in self.files])):
            if len(set(names)) < len(names):
                raise ConfigError(
                    f"protocol.{key} names {max(names, key=list(names).count)} twice; give each "
                    "set of prompts a name of its own."
                )
        self._sets: dict[str, list[CocoPrompts]] = {}

    def prepare(self, data: ReferringDataModule) -> None:
        """Read the annotations and the files of prompts.

        Raises:
            ConfigError: the data is no COCO file.
            UniPHDError: a file is not valid.
        """
        coco = _require_coco(data)
        if self.files:
            read = [read_prompts(path, coco.file, data.val_prompts) for path in self.files]
            self._sets = {kind: [one[kind] for one in read] for kind in data.val_prompts}
        else:
            self._sets = {
                kind: [SeededPrompts(kind, seed) for seed in self.seeds]
                for kind in data.val_prompts
            }

    def evaluate(
        self, trainer: Trainer, module: RefHumanModule, data: ReferringDataModule, folder: Path
    ) -> Metrics:
        """See the base."""
        coco = _require_coco(data)
        metrics: dict[str, dict[str, float]] = {}
        for kind, sets in self._sets.items():
            found = [_evaluate_set(trainer, module, coco, kind, one, folder) for one in sets]
            for reading in READINGS if trainer.is_global_zero else ():
                names = [one.name for one in sets]
                values = [one[reading] for one in found]
                metrics |= _columns(f"{kind}_{reading}", dict(zip(names, values, strict=True)))
        if trainer.is_global_zero:
            write_metrics(folder, metrics)
        return metrics

    def table(self, metrics: Metrics) -> Table:
        """Means with their standard deviations; a single set's values as they are."""
        shown = [f"{kind}_{reading}" for kind in self._sets for reading in READINGS]
        spreads = {name: metrics[f"{name}_{SPREAD}"] for name in shown if self._has_spread}
        return metrics_table({name: metrics[name] for name in shown}, spreads)

    @property
    def _has_spread(self) -> bool:
        return len(self.files or self.seeds) > 1


def _require_coco(data: ReferringDataModule) -> CocoDataModule:
    if not isinstance(data, CocoDataModule):
        raise ConfigError(
            "protocol=coco evaluates a COCO file; leave data=... away and give data.coco and "
            "data.images."
        )
    return data


def _columns(
    name: str, sets: Mapping[str, Mapping[str, float]]
) -> Iterator[tuple[str, dict[str, float]]]:
    """A column, or for several sets of prompts their mean, their spread and each of them."""
    each = list(sets.values())
    if len(each) == 1:
        yield name, dict(each[0])
        return
    values = {key: np.array([one[key] for one in each]) for key in each[0]}
    yield name, {key: float(value.mean()) for key, value in values.items()}
    yield f"{name}_{SPREAD}", {key: float(value.std(ddof=1)) for key, value in values.items()}
    for label, one in sets.items():
        yield f"{name}_{label}", dict(one)


def _evaluate_set(
    trainer: Trainer,
    module: RefHumanModule,
    data: CocoDataModule,
    kind: str,
    prompts: CocoPrompts,
    folder: Path,
) -> dict[str, dict[str, float]]:
    """Ask one set of prompts, write its results, and return its metrics by reading.

    Processes other than the first return nothing.
    """
    images = data.people_with(prompts)
    missing = len(data.file.people) - sum(map(len, images))
    if missing:
        _logger.warning(
            "%s has no %s prompt for %d of %d people, who count as missed",
            *(prompts.name, kind, missing, len(data.file.people)),
        )
    evaluator = CocoEvaluator(data.file)
    load = partial(data.prompted_dataloader, images, prompts)
    trainer.validate(_AskedImages(module, evaluator, load), verbose=False)
    metrics: dict[str, dict[str, float]] = {}
    with evaluator.sync_context():
        if trainer.is_global_zero:
            not_asked = {people[0].image_id for people in images} - evaluator.image_ids
            if not_asked:
                _logger.warning(
                    "asked about %d of %d images (trainer.limit_val_batches=%s); the metrics are "
                    "without the other %d",
                    *(len(images) - len(not_asked), len(images)),
                    *(trainer.limit_val_batches, len(not_asked)),
                )
            for reading in READINGS:
                name = f"{kind}_{reading}_{prompts.name}"
                for task in evaluator.tasks:
                    path = folder / f"{name}_{task}.json"
                    write_results(path, evaluator.coco_results(reading, task))
                metrics[reading] = evaluator.compute_reading(reading, not_asked)
    return metrics


class _AskedImages(LightningModule):
    """Encodes an image once and asks its prompts part by part.

    Args:
        module: of the network; it is told that it has computed.
        evaluator: of the detections.
        load: makes the loader of the images, once the processes know each other.
    """

    def __init__(
        self,
        module: RefHumanModule,
        evaluator: CocoEvaluator,
        load: Callable[[], DataLoader[PromptedImage]],
    ) -> None:
        super().__init__()
        self.model = module.model
        self._module = [module]  # in a list, so that it is no part of this module
        self._evaluator = [evaluator]
        self._load = load

    def val_dataloader(self) -> DataLoader[PromptedImage]:
        """The images of this process."""
        return self._load()

    def validation_step(self, batch: PromptedImage, batch_idx: int) -> None:
        """Evaluate the detections for an image."""
        module, evaluator = self._module[0], self._evaluator[0]
        found = []
        with torch.inference_mode():
            encoded = self.model.encode(batch.images, batch.padding_mask)
            for part in batch.prompts:
                count = len(part)
                sizes, originals = (batch.size,) * count, (batch.original_size,) * count
                predictions = self.model.predict(encoded, sizes, part, (0,) * count)
                found += to_cpu(
                    detections_of(self.model, predictions, module.top_k, sizes, originals)
                )
        evaluator.update(batch.image_id, found)
        module.has_computed = True
