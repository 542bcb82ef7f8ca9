"""Samples per second that the training data gives, without a network.

    python benchmarks/loader.py experiment=swint_refhuman data.root=DIR \
        text_encoder=roberta_base_random

Arguments are those of uniphd-train, for files in RefHuman's format. One loading process with one
thread decodes, augments, draws prompts, makes masks and targets and collates; the main process
receives the batches and normalises the images as before a training step. Round by round in turn,
the same draws go through `straightforward.py`, which does everything in the most direct way and
gives the same samples (tests/data/test_straightforward.py).

The processor time of the loading process tells what a core gives also where other work disturbs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table
from straightforward import PlainCollate, PlainPeople
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import DataLoader, Dataset

from uniphd.config.allocator import keep_freed_memory
from uniphd.config.compose import build, config_dir, fill_resolvers
from uniphd.data.datamodule import RefHumanDataModule
from uniphd.data.dataset import SampleKey
from uniphd.models.backbone import normalise
from uniphd.structures import Batch


@dataclass(frozen=True)
class Round:
    """Seconds per sample: on the clock, of the loading process, of the main process."""

    wall: float
    loading: float
    main: float


@dataclass(frozen=True)
class Stamped:
    """A collate function that adds how much processor time its process has used, in seconds."""

    collate: Callable[[Sequence[Any]], Any]

    def __call__(self, samples: Sequence[Any]) -> tuple[Any, int, float]:
        """The batch, the number of its samples and the time."""
        return self.collate(samples), len(samples), time.process_time()


def main() -> None:
    """Run the benchmark and print its numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=40, help="per round (default: 40)")
    parser.add_argument("--rounds", type=int, default=5, help="of each (default: 5)")
    parser.add_argument("overrides", nargs="*", help="as for uniphd-train")
    options = parser.parse_args()
    keep_freed_memory()  # as uniphd-train does
    torch.set_num_threads(1)
    fill_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        overrides = [*options.overrides, "paths.output_dir=unused", "data.num_workers=0"]
        config = compose("train", overrides)
    tokenize = build(config.tokenizer)
    data: RefHumanDataModule = build(config.data, tokenize=tokenize)
    data.setup("fit")
    package = data.train_dataloader()
    paths = {
        "straightforward": (PlainPeople(data), PlainCollate(tokenize)),
        "this package": (package.dataset, package.collate_fn),
    }
    rounds: dict[str, list[Round]] = {name: [] for name in paths}
    for number in range(options.rounds):
        draws = draw(number, len(data.train_instances), options.batches * data.batch_size)
        for name, (dataset, collate) in paths.items():
            rounds[name].append(measure(dataset, collate, draws, data.batch_size))
    report(rounds, f"{len(data.train_instances)} people, batches of {data.batch_size}")


def draw(seed: int, people: int, count: int) -> list[SampleKey]:
    """Random people with random augmentations."""
    random = Random(seed)
    return [SampleKey(random.randrange(1_000_000), random.randrange(people)) for _ in range(count)]


def measure(
    dataset: Dataset[Any], collate: Callable[..., Any], draws: list[SampleKey], batch_size: int
) -> Round:
    """Seconds per sample of one round, from the first batch to the last."""
    loader = DataLoader(
        dataset, batch_size, sampler=draws, num_workers=1, collate_fn=Stamped(collate)
    )
    stream = iter(loader)
    _, _, loading_start = next(stream)
    wall_start, main_start = time.perf_counter(), time.process_time()
    samples = 0
    loading = 0.0
    for batch, count, stamp in stream:
        if isinstance(batch, Batch):
            normalise(batch.images, batch.padding_mask, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        samples += count
        loading = stamp - loading_start
    wall, main_time = time.perf_counter() - wall_start, time.process_time() - main_start
    return Round(wall / samples, loading / samples, main_time / samples)


def report(rounds: dict[str, list[Round]], title: str) -> None:
    """Print medians, and smallest and largest of the rounds."""
    table = Table("", "samples/s", "per CPU second", "loading", "main")
    table.title = f"{title}, one loading process; CPU time of a sample in ms"
    for name, results in rounds.items():
        wall = [1 / result.wall for result in results]
        cpu = [1 / result.loading for result in results]
        table.add_row(
            name,
            f"{statistics.median(wall):.1f} ({min(wall):.1f} to {max(wall):.1f})",
            f"{statistics.median(cpu):.1f} ({min(cpu):.1f} to {max(cpu):.1f})",
            f"{1000 * statistics.median(result.loading for result in results):.1f}",
            f"{1000 * statistics.median(result.main for result in results):.1f}",
        )
    Console().print(table)
    plain, package = rounds.values()
    pairs = zip(plain, package, strict=True)
    ratio = statistics.median(one.loading / other.loading for one, other in pairs)
    print(f"{ratio:.2f} times as many samples per CPU second of the loading process")


if __name__ == "__main__":
    main()
