"""Steps per second of one and of several processes, each with a batch of its own.

    python benchmarks/ddp.py experiment=synthetic_cpu data.train_scenes=200 data.val_scenes=1 \
        loss.warmup.steps=0
    python benchmarks/ddp.py --processes 1,2,4,8 --accelerator gpu experiment=swint_refhuman \
        data.root=DIR

Arguments are those of uniphd-train, which torchrun starts. Where nothing serialises, several
processes take as many steps per second as one. On a CPU every process gets one thread and a core
of its own, as far as there are cores; the machine has to be idle.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

SKIPPED = 5  # steps that warm up


class StepTimes(Callback):
    """Writes the seconds of every step but the first ones.

    Args:
        path: JSON file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.marks: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note when a step is done, on the device too."""
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what the first process measured."""
        if trainer.is_global_zero:
            seconds = [after - before for before, after in pairwise(self.marks[SKIPPED:])]
            self.path.write_text(json.dumps(seconds))


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", default="1,2", help="numbers to try (default: 1,2)")
    parser.add_argument("--steps", type=int, default=40, help="counted steps (default: 40)")
    parser.add_argument("--accelerator", default="cpu", help="default: cpu")
    parser.add_argument("overrides", nargs="*", help="as for uniphd-train")
    options = parser.parse_args()
    counts = [int(count) for count in options.processes.split(",")]
    rows = {
        count: measure(count, options.steps, options.accelerator, options.overrides)
        for count in counts
    }
    table = Table("processes", "s per step", "steps/s", "of the first row's rate")
    alone = statistics.median(rows[counts[0]])
    for count, seconds in rows.items():
        median = statistics.median(seconds)
        table.add_row(str(count), f"{median:.3f}", f"{1 / median:.2f}", f"{alone / median:.0%}")
    Console().print(table)


def measure(processes: int, steps: int, accelerator: str, overrides: list[str]) -> list[float]:
    """Seconds of every counted step of a training in so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times.json"
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={processes}", "-m", "uniphd.cli.train"),
            *("trainer=ddp", f"trainer.devices={processes}", f"trainer.accelerator={accelerator}"),
            *("callbacks=none", "logger=none", "print_summary=false"),
            f"hydra.run.dir={folder}",
            "+callbacks.times._target_=benchmarks.ddp.StepTimes",
            f"+callbacks.times.path={times}",
            *overrides,
            # The last words: an experiment has a length of its own.
            *(f"trainer.max_steps={steps + SKIPPED + 1}", "trainer.limit_val_batches=0"),
            "module.scheduler=null",
            "trainer.enable_progress_bar=false",
        ]
        root = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        threads = {"OMP_NUM_THREADS": "1"} if accelerator == "cpu" else {}
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path, **threads})
        seconds: list[float] = json.loads(times.read_text())
        return seconds


if __name__ == "__main__":
    main()
