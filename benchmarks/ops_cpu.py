"""Deformable attention on a CPU: the native operator against the PyTorch reference.

    python benchmarks/ops_cpu.py --threads 2 --repeats 15

Both are timed in turns, so that a busy or throttled machine slows them alike: the ratio of the
medians is worth more than either time. The values are written anew before every call, as the
projection before the operator does in the network, so that no call finds them in the cache.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from memory import peak_memory
from ops_inputs import SHAPES, make_example
from rich.console import Console
from rich.table import Table

from uniphd.ops.check import TOLERANCES
from uniphd.ops.examples import Example
from uniphd.ops.info import versions

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in TOLERANCES}


def main() -> None:
    """Run the benchmark, print its table and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: all")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for shape in options.shape or SHAPES:
        example = make_example(shape, options.batch).to("cpu", DTYPES[options.dtype])
        rows += measure_shape(shape, example, options.repeats)
    title = f"{options.dtype}, batch {options.batch}, {options.threads} threads"
    table = Table(*(name.replace(" ", "\n") for name in rows[0]), title=title, box=None)
    for row in rows:
        table.add_row(*(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values()))
    Console().print(table)
    if options.json is not None:
        settings = {**vars(options), "shape": options.shape or SHAPES, "json": None}
        run = {"date": datetime.date.today().isoformat(), "versions": versions(), **settings}
        options.json.write_text(json.dumps({**run, "rows": rows}, indent=2) + "\n")


def measure_shape(shape: str, example: Example, repeats: int) -> list[dict[str, object]]:
    """A row for the forward and one for both directions."""
    rows: list[dict[str, object]] = []
    for direction, run in (
        ("forward", lambda backend: (example.forward(backend),)),
        ("forward+backward", example.forward_backward),
    ):
        native, reference = partial(run, "native"), partial(run, "reference")
        results = native()  # also builds, and warms up
        reference()
        seconds = alternating_medians((native, reference), repeats, example)
        peaks = [peak_memory(call, "cpu") for call in (native, reference)]
        rows.append(
            {
                "shape": shape,
                "direction": direction,
                "native ms": seconds[0] * 1e3,
                "reference ms": seconds[1] * 1e3,
                "ratio": seconds[1] / seconds[0],
                "result MB": sum(tensor.nbytes for tensor in results) / 1e6,
                "native MB": None if peaks[0] is None else peaks[0] / 1e6,
                "reference MB": None if peaks[1] is None else peaks[1] / 1e6,
            }
        )
    return rows


def alternating_medians(
    calls: tuple[Callable[[], object], ...], repeats: int, example: Example
) -> list[float]:
    """Median seconds of each call; every round runs all of them once."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, seconds in zip(calls, times, strict=True):
            example.value.mul_(1)
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in times]


if __name__ == "__main__":
    main()
