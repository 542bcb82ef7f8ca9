"""What an encoded image saves, what prompts at once save, and what large images need.

    python benchmarks/predictor.py experiment=swint_refhuman text_encoder=roberta_base_random \
        backbone.pretrained=false

Weights and images are random: neither changes the time. Calls are timed in turns, so that their
ratios hold on a busy machine. Memory is measured first, as a program of your own would need it; for
the times, freed memory is kept, as the commands do. Arguments are those of uniphd-train.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from memory import peak_memory
from rich.console import Console
from rich.table import Table

from uniphd import PointPrompt, Predictor, TextPrompt
from uniphd.checkpoints.folder import save_folder
from uniphd.checkpoints.reading import portable_config
from uniphd.config.allocator import keep_freed_memory
from uniphd.config.compose import build_network, config_dir, fill_resolvers
from uniphd.prompts import Prompt

PROMPTS = 16


def main() -> None:
    """Measure and print one table each for time and memory."""
    options = _parse()
    torch.set_num_threads(options.threads)
    memory = _memory(options.frames)
    keep_freed_memory()
    predictor = _random_predictor(options.overrides, options.batch_size)
    height, width = 480, 640
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    # The last three are shares of a whole call.
    times = Table(
        *("prompt", "whole call, s", "on an encoded image", "16 one by one, per prompt"),
        "16 in one call, per prompt",
    )
    kinds: dict[str, Callable[[int], Prompt]] = {
        "text": lambda i: TextPrompt(f"the person number {i} with a blue shirt on the left"),
        "point": lambda i: PointPrompt(torch.tensor([20.0 + 30 * i, height / 2])),
    }
    for name, make in kinds.items():
        whole, further, single, many = _seconds(predictor, image, make, options.repeats)
        shares = (further, single / PROMPTS, many / PROMPTS)
        times.add_row(name, f"{whole:.2f}", *(f"{share / whole:.2f}" for share in shares))
    Console().print(times)
    Console().print(memory)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--repeats", type=int, default=5, help="default: 5")
    parser.add_argument("--batch-size", type=int, help="prompts at once (default: the predictor's)")
    parser.add_argument("--frames", type=int, default=500, help="of the stream (default: 500)")
    parser.add_argument("overrides", nargs="*", help="as for uniphd-train")
    return parser.parse_args()


def _random_predictor(overrides: list[str], batch_size: int | None = None) -> Predictor:
    fill_resolvers()
    torch.manual_seed(0)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", [*overrides, "paths.output_dir=unused", "data.root=none"])
    network, model_config = build_network(config)
    with tempfile.TemporaryDirectory() as folder:
        plain = type(model_config)(**portable_config(model_config, network))
        save_folder(Path(folder), plain, network.state_dict())
        return Predictor(folder, batch_size=batch_size)


def _seconds(
    predictor: Predictor, image: np.ndarray, make: Callable[[int], Prompt], repeats: int
) -> tuple[float, ...]:
    """Medians of a whole call, a further prompt on an encoded image, 16 of them, and 16 at once."""
    encoded = predictor.encode(image)
    prompts = [make(i) for i in range(PROMPTS)]
    calls: dict[str, Callable[[], object]] = {
        "whole": lambda: predictor.predict(image, prompts=prompts[:1]),
        "further": lambda: encoded.predict(prompts=prompts[:1]),
        "single": lambda: [encoded.predict(prompts=[prompt]) for prompt in prompts],
        "many": lambda: encoded.predict(prompts=prompts),
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(repeats + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn > 0:
                seconds[name].append(time.perf_counter() - started)
    return tuple(statistics.median(seconds[name]) for name in calls)


def _memory(frames: int) -> Table:
    """What a large image's results and a stream add to the memory in use."""
    table = Table("what", "peak, MiB")
    small = Predictor("synthetic_cpu", device="cpu")
    height, width = 4000, 6000
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = small.predict(image, point=(3000, 2000), top_k=20)
    calls: dict[str, Callable[[], object]] = {
        "the image itself (24 megapixels)": image.copy,
        "prediction": lambda: small.predict(image, point=(3000, 2000), top_k=20),
        "masks of all candidates, one by one": lambda: [
            candidate.mask.sum() for candidate in found.candidates
        ],
        "their COCO entries": lambda: [candidate.to_coco() for candidate in found.candidates],
    }
    for name, call in calls.items():
        table.add_row(name, _mebibytes(peak_memory(call, "cpu")))
    frame = np.ascontiguousarray(image[:480, :640])
    stream = small.stream((frame for _ in range(frames)), point=(320, 240))
    for _ in range(min(20, frames)):
        next(stream)
    used = peak_memory(lambda: [result.score for result in stream], "cpu")
    table.add_row(f"{frames - 20} further images of a stream", _mebibytes(used))
    return table


def _mebibytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 2**20:.0f}"


if __name__ == "__main__":
    main()
