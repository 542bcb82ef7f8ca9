"""Samples per second that the training data gives, without a network.

    python benchmarks/loader.py experiment=swint_refhuman data.root=DIR data.batch_size=4 \
        text_encoder=roberta_base_random

Arguments are those of uniphd-train. One loading process with one thread decodes, augments, draws
prompts, makes masks and targets and collates; the main process only receives the batches.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator

from hydra import compose, initialize_config_dir
from torch.utils.data import DataLoader

from uniphd.cli.configuration import build, config_dir, fill_resolvers
from uniphd.data.loading import PeopleDataModule


def main() -> None:
    """Run the benchmark and print its numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=40, help="per round (default: 40)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("overrides", nargs="*", help="as for uniphd-train")
    options = parser.parse_args()
    fill_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        overrides = [*options.overrides, "paths.output_dir=unused", "data.num_workers=1"]
        config = compose("train", overrides)
    data: PeopleDataModule = build(config.data, tokenize=build(config.tokenizer))
    data.setup("fit")
    rates = measure(data, options.batches, options.rounds)
    print(
        f"{len(data.train_records)} people, batches of {data.batch_size}: "
        f"{statistics.median(rates):.1f} samples/s with one process "
        f"(median of {len(rates)}; {min(rates):.1f} to {max(rates):.1f})"
    )


def measure(data: PeopleDataModule, batches: int, rounds: int) -> list[float]:
    """Samples per second of each round, after one round that fills the caches."""
    loader = data.train_dataloader()
    stream = itertools.chain.from_iterable(_epochs(loader))
    rates = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        samples = sum(len(batch) for batch in itertools.islice(stream, batches))
        rates.append(samples / (time.perf_counter() - start))
    return rates[1:]


def _epochs(loader: DataLoader) -> Iterator[DataLoader]:
    """The loader again and again, each time with the next epoch's order."""
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        yield loader


if __name__ == "__main__":
    main()
