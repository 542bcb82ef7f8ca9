"""Time, memory, page faults and arithmetic of the whole network, by part.

    python benchmarks/model.py experiment=swint_refhuman text_encoder=roberta_base_random \
        backbone.pretrained=false

Weights and image are random: neither changes the time. Two things are measured, each with the
native operator and with the reference in turns, so that their ratio holds on a busy machine:

    prediction  image and text -> the best detection, float32, without gradients
    training    forward, losses of one person, backward (with --training)

Arguments are those of uniphd-train. `MALLOC_*` settings of the environment are printed with the
results, since glibc's default gives large temporaries back to the system and faults them in anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from memory import peak_memory
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from uniphd.config.compose import build, build_network, config_dir, fill_resolvers
from uniphd.inference.detect import detect
from uniphd.inference.quantize import quantize_linear_layers
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import BoxPrompt, PointPrompt, Prompt, ScribblePrompt, TextPrompt, batch_prompts
from uniphd.structures import Batch, Size, Target, pack_targets

PARTS = (
    "backbone",
    "prompt_encoder",
    "prompt_encoder.text_encoder",
    "neck",
    "fusion",
    "encoder",
    "encoder.*.attention",
    "encoder.*.feedforward",
    "query_selection",
    "decoder",
    "decoder.*.cross_attention",
    "mask_head",
)
BACKENDS = ("native", "reference")
WORDS = 10  # 12 tokens with the two that enclose a text


@dataclass(frozen=True)
class Result:
    """One way of running the network.

    Attributes:
        task: "prediction" or "training".
        backend: of deformable attention.
        seconds: median of the whole.
        parts: median seconds by part of `PARTS`; empty for training.
        page_faults: minor page faults, median.
        peak_bytes: growth of the resident memory at its peak, or None where it is not known.
    """

    task: str
    backend: str
    seconds: float
    parts: dict[str, float]
    page_faults: float
    peak_bytes: int | None


def main() -> None:
    """Run the benchmark, print its tables and write its JSON."""
    options = _parse()
    fill_resolvers()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", [*options.overrides, "paths.output_dir=unused", "data.root=none"])
    network = build_network(config)[0].eval()
    if options.int8:
        network = quantize_linear_layers(network)
    batch = make_batch(options.size, options.batch, options.prompt)
    flops = count_flops(network, batch, options.detections)

    def predict() -> object:
        return detect(network, batch, options.detections)

    tasks: dict[str, Callable[[], object]] = {"prediction": predict}
    if options.training:
        criterion = build(config.loss)
        tasks["training"] = lambda: train(network, criterion, batch)
    results = [
        result
        for task, call in tasks.items()
        for result in measure(task, call, network, options.repeats)
    ]
    report(results, flops, batch, options)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=_size, default=(480, 640), metavar="HxW")
    parser.add_argument("--batch", type=int, default=1, help="images (default: 1)")
    prompts = ("text", "point", "scribble", "box")
    parser.add_argument("--prompt", choices=prompts, default="text")
    parser.add_argument("--detections", type=int, default=1, help="masks per image (default: 1)")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--repeats", type=int, default=11, help="default: 11")
    parser.add_argument("--int8", action="store_true", help="linear layers in 8 bits")
    parser.add_argument("--training", action="store_true", help="measure forward + backward too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    parser.add_argument("overrides", nargs="*", help="as for uniphd-train")
    return parser.parse_args()


def _size(text: str) -> Size:
    height, _, width = text.partition("x")
    return int(height), int(width)


def make_batch(size: Size, count: int, kind: str) -> Batch:
    """A batch of one random image, one prompt and one person, `count` times."""
    height, width = size
    middle = torch.tensor([width / 2, height / 2])
    prompts: dict[str, Prompt] = {
        "text": TextPrompt(" ".join(["person"] * WORDS)),
        "point": PointPrompt(middle),
        "scribble": ScribblePrompt(middle + torch.randn(12, 2) * 10),
        "box": BoxPrompt(torch.cat([middle * 0.5, middle * 1.5])),
    }
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
    person = Target(
        labels=torch.ones(1, dtype=torch.int64),
        boxes=torch.full((1, 4), 0.5),
        keypoints=torch.rand(1, 17, 2) / 2 + 0.25,
        visibility=torch.ones(1, 17),
        area=torch.full((1,), 0.25),
        masks=mask,
    )
    return Batch(
        images=torch.randint(256, (count, 3, height, width), dtype=torch.uint8),
        padding_mask=torch.zeros(count, height, width, dtype=torch.bool),
        image_index=tuple(range(count)),
        sizes=(size,) * count,
        original_sizes=(size,) * count,
        prompts=batch_prompts([prompts[kind]] * count, _tokenize),
        packed_targets=pack_targets([person] * count, size),
        image_ids=tuple(range(count)),
    )


def _tokenize(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(5, 1000, (len(texts), WORDS + 2))
    return ids, torch.ones_like(ids)


def train(network: UniPHD, criterion: nn.Module, batch: Batch) -> None:
    """Forward, losses and backward; gradients start from nothing."""
    network.zero_grad()
    predictions = network(*batch.inputs)
    result = criterion(predictions, batch.targets, network, float(len(batch)))
    result.total.backward()


def count_flops(network: UniPHD, batch: Batch, detections: int) -> dict[str, float]:
    """Arithmetic of a prediction in GFLOP, by part: products, convolutions and attention."""
    counter = FlopCounterMode(display=False, depth=None)
    with counter, torch.no_grad():
        predictions = network(*batch.inputs)
        final = predictions.final
        network.mask_head(
            predictions.mask_features, final.embedding[:, :detections], final.centre[:, :detections]
        )
    counts = counter.get_flop_counts()
    names = {module: name for name, module in network.named_modules()}
    total = dict.fromkeys(PARTS, 0.0)
    for path, operations in counts.items():
        name = path.partition(".")[2] if path.startswith("UniPHD.") else path
        name = name.removeprefix("UniPHD.")
        if name in names.values() and (part := _part(name)) is not None:
            total[part] += sum(operations.values()) / 1e9
    total["mask_head"] += sum(counts.get("MaskHead", {}).values()) / 1e9
    total["whole"] = sum(counts["Global"].values()) / 1e9
    return total


def _part(name: str) -> str | None:
    """Which of `PARTS` a module is: a name, or the same part of every layer."""
    if name in PARTS:
        return name
    starred = re.sub(r"\.layers\.\d+\.", ".*.", name)
    return starred if starred in PARTS else None


def measure(
    task: str, call: Callable[[], object], network: UniPHD, repeats: int
) -> Iterator[Result]:
    """Time a task with both implementations in turns; the first call of each is not counted."""
    seconds: dict[str, list[float]] = defaultdict(list)
    parts: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    faults: dict[str, list[int]] = defaultdict(list)
    for turn in range(repeats + 1):
        for backend in BACKENDS:
            os.environ["UNIPHD_OPS"] = backend
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            with part_times(network) as times:
                started = time.perf_counter()
                call()
                elapsed = time.perf_counter() - started
            if turn > 0:
                seconds[backend].append(elapsed)
                faults[backend].append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
                for part, value in times.items():
                    parts[backend][part].append(value)
    for backend in BACKENDS:
        os.environ["UNIPHD_OPS"] = backend
        yield Result(
            task,
            backend,
            statistics.median(seconds[backend]),
            {part: statistics.median(values) for part, values in parts[backend].items()},
            statistics.median(faults[backend]),
            peak_memory(call, "cpu"),
        )


@contextmanager
def part_times(network: UniPHD) -> Iterator[dict[str, float]]:
    """Collects the seconds that each of `PARTS` takes within the context."""
    times: dict[str, float] = defaultdict(float)
    handles = []
    for name, module in network.named_modules():
        if name and (part := _part(name)) is not None:

            def start(module: nn.Module, inputs: object, part: str = part) -> None:
                times[part] -= time.perf_counter()

            def stop(module: nn.Module, inputs: object, output: object, part: str = part) -> None:
                times[part] += time.perf_counter()

            handles += [
                module.register_forward_pre_hook(start),
                module.register_forward_hook(stop),
            ]
    try:
        yield times
    finally:
        for handle in handles:
            handle.remove()


def report(
    results: list[Result], flops: dict[str, float], batch: Batch, options: argparse.Namespace
) -> None:
    """Print the tables; write the JSON if asked to."""
    by_name = {(result.task, result.backend): result for result in results}
    native = by_name["prediction", "native"]
    reference = by_name["prediction", "reference"]
    table = Table("part", "ms", "reference, ms", "GFLOP", "GFLOP/s", title="Prediction by part")
    for part in (*PARTS, "whole"):
        seconds = native.seconds if part == "whole" else native.parts.get(part)
        other = reference.seconds if part == "whole" else reference.parts.get(part)
        if seconds is None or other is None:
            continue
        work = flops[part]
        name = ("- " if "." in part else "") + part.rpartition(".")[2]
        rate = f"{work / seconds:.0f}" if work else ""
        table.add_row(name, f"{1e3 * seconds:.0f}", f"{1e3 * other:.0f}", f"{work:.1f}", rate)
    Console().print(table)
    summary = Table("task", "native, s", "reference, s", "ratio", "page faults", "peak, MiB")
    for task in dict.fromkeys(result.task for result in results):
        fast, slow = (by_name[task, backend] for backend in BACKENDS)
        summary.add_row(
            task,
            f"{fast.seconds:.3f}",
            f"{slow.seconds:.3f}",
            f"{slow.seconds / fast.seconds:.2f}",
            " / ".join(f"{result.page_faults:,.0f}" for result in (fast, slow)),
            " / ".join(_mebibytes(result.peak_bytes) for result in (fast, slow)),
        )
    Console().print(summary)
    run = {
        "date": date.today().isoformat(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "allocator": {name: value for name, value in os.environ.items() if "MALLOC" in name},
        "canvas": list(batch.images.shape),
        "prompt": options.prompt,
        "detections": options.detections,
        "int8": options.int8,
        "overrides": options.overrides,
    }
    print(json.dumps(run))
    if options.json is not None:
        run["gflop"] = flops
        run["results"] = [asdict(result) for result in results]
        options.json.write_text(json.dumps(run, indent=2) + "\n")


def _mebibytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 2**20:.0f}"


if __name__ == "__main__":
    main()
