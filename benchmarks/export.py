"""onnxruntime beside PyTorch: latency of calls, in turns in one process, and every output's error.

    python benchmarks/export.py
    python benchmarks/export.py experiment=swint_refhuman text_encoder=roberta_base_random \
        backbone.pretrained=false

Without arguments, the network is synthetic_cpu. With arguments, which are those of uniphd-train,
weights are random, which does not change the time. The image fills the canvas, so that both compute
the same.
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
from rich.console import Console
from rich.table import Table

from uniphd import PointPrompt, Predictor, TextPrompt
from uniphd.checkpoints.folder import save_folder
from uniphd.checkpoints.reading import portable_config
from uniphd.config.compose import build_network, config_dir, fill_resolvers
from uniphd.inference.demo import write_demo
from uniphd.inference.export.check import check_export
from uniphd.inference.export.write import export
from uniphd.inference.image_input import read_image_input
from uniphd.prompts import Prompt

MANY = 16


def main() -> None:
    """Export, check and measure; print two tables."""
    options = _parse()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _random_network(folder / "model", options.overrides) or "synthetic_cpu"
        started = time.perf_counter()
        files = export(model, folder / "export", options.format)
        print(f"exported in {time.perf_counter() - started:.0f} s", flush=True)
        image = read_image_input(write_demo(folder).image)
        errors = Table("graph", "output", "largest error", "largest value")
        for e in check_export(files, model, image):
            errors.add_row(e.graph, e.output, f"{e.error:.1e}", f"{e.largest:.3g}")
        Console().print(errors)
        pair = {"PyTorch": Predictor(model, "cpu"), options.format: Predictor(files.folder, "cpu")}
        _print_times(pair, np.asarray(image), options.repeats)


def _print_times(predictors: dict[str, Predictor], image: np.ndarray, repeats: int) -> None:
    table = Table("prompt", "call", *(f"{name}, ms" for name in predictors), "ratio")
    kinds: dict[str, Callable[[int], Prompt]] = {
        "text": lambda i: TextPrompt(f"the person number {i} with a blue shirt on the left"),
        "point": lambda i: PointPrompt(torch.tensor([20.0 + 20 * i, 240.0])),
    }
    for kind, make in kinds.items():
        prompts = [make(i) for i in range(MANY)]
        calls: dict[tuple[str, str], Callable[[], object]] = {}
        for name, predictor in predictors.items():
            for call, function in _calls(predictor, image, prompts).items():
                calls[call, name] = function
        times = _medians(calls, repeats)
        for call in dict.fromkeys(call for call, _ in calls):
            ours, others = (times[call, name] * 1000 for name in predictors)
            table.add_row(kind, call, f"{ours:.0f}", f"{others:.0f}", f"{others / ours:.2f}")
    Console().print(table)


def _calls(
    predictor: Predictor, image: np.ndarray, prompts: list[Prompt]
) -> dict[str, Callable[[], object]]:
    encoded = predictor.encode(image)
    return {
        "whole": lambda: predictor.predict(image, prompts=prompts[:1]),
        "further prompt": lambda: encoded.predict(prompts=prompts[:1]),
        f"{len(prompts)} further prompts": lambda: encoded.predict(prompts=prompts),
    }


def _medians(
    calls: dict[tuple[str, str], Callable[[], object]], repeats: int
) -> dict[tuple[str, str], float]:
    """Seconds per call, measured in turns, so that ratios hold on a busy machine."""
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for turn in range(repeats + 1):
        for key, call in calls.items():
            started = time.perf_counter()
            call()
            if turn > 0:
                seconds[key].append(time.perf_counter() - started)
    return {key: statistics.median(values) for key, values in seconds.items()}


def _random_network(folder: Path, overrides: list[str]) -> Path | None:
    """A model folder with random weights; None without arguments."""
    if not overrides:
        return None
    fill_resolvers()
    torch.manual_seed(0)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", [*overrides, "paths.output_dir=unused", "data.root=none"])
    network, model_config = build_network(config)
    plain = type(model_config)(**portable_config(model_config, network))
    save_folder(folder, plain, network.state_dict())
    return folder


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--format", default="onnx", help="onnx or pt2 (default: onnx)")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--repeats", type=int, default=5, help="default: 5")
    parser.add_argument("overrides", nargs="*", help="as for uniphd-train")
    return parser.parse_args()


if __name__ == "__main__":
    main()
