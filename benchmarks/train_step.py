"""Time and memory of one training step, by part.

    python benchmarks/train_step.py experiment=swint_refhuman data.root=DIR data.batch_size=2 \
        text_encoder=roberta_base_random backbone.pretrained=false

Arguments are those of uniphd-train, whose `trainer.accelerator` and `trainer.precision` count. The
first batch of the training data is used for every step; the first step, which compiles the operator
and fills the allocator, is shown but not counted.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from hydra import compose, initialize_config_dir
from lightning import Fabric
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from uniphd.config.compose import build, build_network, config_dir, fill_resolvers
from uniphd.models.build import build_tokenizer
from uniphd.structures import Batch
from uniphd.training.optim import parameter_groups

PARTS = ("forward", "loss", "backward", "optimizer")


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3, help="counted steps (default: 3)")
    parser.add_argument("overrides", nargs="*", help="as for uniphd-train")
    options = parser.parse_intermixed_args()
    fill_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        overrides = [*options.overrides, "paths.output_dir=unused", "data.num_workers=0"]
        config = compose("train", overrides)
    trainer = config.trainer
    fabric = Fabric(accelerator=trainer.accelerator, devices=1, precision=trainer.precision)
    step, batch = prepare(config, fabric)
    times = [step() for _ in range(options.steps + 1)]
    report(fabric.device, batch, times)


def prepare(config: DictConfig, fabric: Fabric) -> tuple[Callable[[], dict[str, float]], Batch]:
    """A function that runs one step and returns seconds by part, and the batch it runs on."""
    torch.manual_seed(0)
    network, model_config = build_network(config)
    network.to(fabric.device)
    data = build(config.data, tokenize=build_tokenizer(model_config.tokenizer))
    data.setup("fit")
    batch = next(iter(data.train_dataloader())).to(fabric.device)
    criterion = build(config.loss)
    optim = config.optim
    groups = parameter_groups(
        network.named_parameters(), optim.lr, optim.weight_decay, optim.param_groups
    )
    optimizer = build(optim.optimizer, params=groups)

    def now() -> float:
        if fabric.device.type == "cuda":
            torch.cuda.synchronize(fabric.device)
        return time.perf_counter()

    def step() -> dict[str, float]:
        marks = [now()]
        with fabric.autocast():
            predictions = network(*batch.inputs)
            marks.append(now())
            result = criterion(predictions, batch.targets, network, float(len(batch)))
        marks.append(now())
        result.total.backward()
        marks.append(now())
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.trainer.gradient_clip_val)
        optimizer.step()
        optimizer.zero_grad()
        marks.append(now())
        seconds = [after - before for before, after in pairwise(marks)]
        return dict(zip(PARTS, seconds, strict=True))

    return step, batch


def report(device: torch.device, batch: Batch, times: list[dict[str, float]]) -> None:
    """Print milliseconds by part, first step and median of the others, and the peak memory."""
    _, _, height, width = batch.images.shape
    table = Table("part", "first step (ms)", "median (ms)", title="Training step")
    for part in (*PARTS, "total"):
        seconds = [sum(step.values()) if part == "total" else step[part] for step in times]
        table.add_row(
            part, f"{1e3 * seconds[0]:.1f}", f"{1e3 * statistics.median(seconds[1:]):.1f}"
        )
    Console().print(table)
    print(f"batch {len(batch)} at {height} x {width}, prompts {', '.join(batch.prompts.kinds)}")
    if device.type == "cuda":
        print(f"peak GPU memory {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB")
        print(f"torch {torch.__version__}, {torch.cuda.get_device_name(device)}")
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"peak resident memory {peak:.1f} GiB")
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")


if __name__ == "__main__":
    main()
