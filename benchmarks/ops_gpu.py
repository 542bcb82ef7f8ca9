"""Deformable attention on a CUDA device: time, bytes per second and memory of every kernel.

    python benchmarks/ops_gpu.py --out benchmarks/results

Native kernels in three types, their deterministic backward, the PyTorch reference, and a kernel in
the way of Deformable DETR's own (per_channel_kernel.cu), all in one run. The bytes are those that
a direction must move at least, each tensor once; their rate is held against a device copy.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from memory import peak_memory
from ops_inputs import SHAPES, make_example
from per_channel_kernel import PerChannelKernel
from rich.console import Console
from rich.table import Table
from torch import Tensor

from uniphd.ops.backend import load_native
from uniphd.ops.examples import Example
from uniphd.ops.info import versions

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
COPY_BYTES = 2**30


@dataclass(frozen=True)
class Row:
    """One kernel on one shape; ``bytes`` is what it must move at least."""

    shape: str
    kernel: str
    direction: str
    milliseconds: float
    bytes: int
    peak_bytes: int | None

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self.bytes / self.milliseconds * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    load_native("cuda")
    name = torch.cuda.get_device_name()
    copy_rate = measure_copy(options.repeats)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        yardstick = PerChannelKernel(Path(folder))
        for shape in SHAPES:
            rows += measure_shape(shape, options.batch, options.repeats, yardstick)
    title = f"{name}, batch {options.batch}; a device copy moves {copy_rate / 1e9:.0f} GB/s"
    Console(width=120).print(table(title, rows, copy_rate))
    results = {
        "date": datetime.date.today().isoformat(),
        "batch": options.batch,
        "repeats": options.repeats,
        "versions": versions(),
        "copy_bytes_per_second": copy_rate,
        "rows": [{**asdict(row), "bytes_per_second": row.rate} for row in rows],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"Results: {target}")


def measure_copy(repeats: int) -> float:
    """Bytes per second of a copy inside the device, counting bytes read and bytes written."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / milliseconds(lambda: target.copy_(source), repeats) * 1e3


def measure_shape(shape: str, batch: int, repeats: int, yardstick: PerChannelKernel) -> list[Row]:
    example = make_example(shape, batch)
    rows = []
    for dtype in DTYPES:
        call = example.to("cuda", dtype)
        name = str(dtype).removeprefix("torch.")
        forward = torch.ops.uniphd.ms_deform_attn
        backward = torch.ops.uniphd.ms_deform_attn_backward
        rows += both_directions(shape, f"native {name}", call, forward, backward, repeats)
        rows.append(ordered_row(shape, f"native {name}", call, repeats))
    call = example.to("cuda", torch.float32)
    check(yardstick, call)
    rows += both_directions(
        shape, "per channel float32", call, yardstick.forward, yardstick.backward, repeats
    )
    rows += reference_rows(shape, call, repeats)
    return rows


def both_directions(
    shape: str,
    kernel: str,
    call: Example,
    forward: Callable[..., Tensor],
    backward: Callable[..., tuple[Tensor, ...]],
    repeats: int,
) -> list[Row]:
    arguments = op_arguments(call)
    one = measure(lambda: forward(*arguments), repeats)
    two = measure(lambda: backward(call.grad_output, *arguments), repeats)
    return [
        Row(shape, kernel, "forward", one[0], forward_bytes(call), one[1]),
        Row(shape, kernel, "backward", two[0], backward_bytes(call), two[1]),
    ]


def ordered_row(shape: str, kernel: str, call: Example, repeats: int) -> Row:
    arguments = op_arguments(call)
    torch.use_deterministic_algorithms(True)
    time, peak = measure(
        lambda: torch.ops.uniphd.ms_deform_attn_backward(call.grad_output, *arguments), repeats
    )
    torch.use_deterministic_algorithms(False)
    return Row(shape, kernel, "backward, deterministic", time, backward_bytes(call), peak)


def reference_rows(shape: str, call: Example, repeats: int) -> list[Row]:
    one = measure(lambda: call.forward("reference"), repeats)
    both = measure(lambda: call.forward_backward("reference"), repeats)
    least = forward_bytes(call) + backward_bytes(call)
    return [
        Row(shape, "reference float32", "forward", one[0], forward_bytes(call), one[1]),
        Row(shape, "reference float32", "forward and backward", both[0], least, both[1]),
    ]


def check(yardstick: PerChannelKernel, call: Example) -> None:
    """A yardstick that computes something else would measure nothing."""
    arguments = op_arguments(call)
    pairs = [
        (yardstick.forward(*arguments), torch.ops.uniphd.ms_deform_attn(*arguments)),
        *zip(
            yardstick.backward(call.grad_output, *arguments),
            torch.ops.uniphd.ms_deform_attn_backward(call.grad_output, *arguments),
            strict=True,
        ),
    ]
    for one, other in pairs:  # as vectors: rounding moves single points to the next cell
        error = float((one - other).norm() / other.norm())
        if not error < 1e-3:
            raise SystemExit(f"the yardstick and the native kernels differ by {error:.1e}")


def op_arguments(call: Example) -> tuple[Tensor, ...]:
    shapes = torch.tensor(call.shapes)
    areas = shapes.prod(1)
    starts = areas.cumsum(0) - areas
    return call.value, shapes.cuda(), starts.cuda(), call.locations, call.weights


def forward_bytes(call: Example) -> int:
    """Inputs read and output written, each once."""
    tensors = (call.value, call.locations, call.weights, call.grad_output)
    return sum(tensor.nbytes for tensor in tensors)


def backward_bytes(call: Example) -> int:
    """The gradient of the output and the inputs read, three gradients written, each once."""
    inputs = (call.value, call.locations, call.weights)
    return call.grad_output.nbytes + 2 * sum(tensor.nbytes for tensor in inputs)


def measure(call: Callable[[], object], repeats: int) -> tuple[float, int | None]:
    """Median milliseconds, and the most memory in use beyond the inputs."""
    return milliseconds(call, repeats), peak_memory(call, "cuda")


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    for _ in range(3):
        call()
    events = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(repeats)
    ]
    for start, end in events:
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in events)


def table(title: str, rows: list[Row], copy_rate: float) -> Table:
    grid = Table(title=title)
    for name in ("shape", "kernel", "direction"):
        grid.add_column(name, no_wrap=True)
    for name in ("ms", "least MB", "GB/s", "of a copy", "peak MB"):
        grid.add_column(name, justify="right")
    for row in rows:
        peak = "?" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}"
        grid.add_row(
            row.shape,
            row.kernel,
            row.direction,
            f"{row.milliseconds:.3f}",
            f"{row.bytes / 1e6:.0f}",
            f"{row.rate / 1e9:.0f}",
            f"{row.rate / copy_rate:.0%}",
            peak,
        )
    return grid


if __name__ == "__main__":
    main()
