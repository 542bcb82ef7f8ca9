"""Times the native operators against the reference: both in one run, one after the other.

A machine that is busy, throttled or shared changes both alike, so that the ratio of the medians is
worth more than either time. The values are written anew before every call, as the projection
before the operator does in the network: nobody finds them in the cache because of the other's
order, or misses them because the other has filled it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

import torch

from uniphd.ops.examples import Example, cell_centres, random_example
from uniphd.ops.memory import peak_memory

# An image of 640 x 640 in UniPHD: strides 8 to 64, 8 heads of 32 channels, 4 points.
LEVELS = ((80, 80), (40, 40), (20, 20), (10, 10))
HEADS = 8
CHANNELS = 32
POINTS = 4
DECODER_QUERIES = 360  # 20 groups of 17 keypoints and an instance
_SPREAD = 2.0  # cells; the offsets of an untrained network lie 1 to 4 cells away

SHAPES = ("encoder", "decoder")


@dataclass(frozen=True)
class Timing:
    """One direction of the operator on one shape.

    Attributes:
        shape: "encoder" or "decoder".
        direction: "forward" or "forward+backward".
        native_seconds: median time of a call.
        reference_seconds: the same of the reference.
        native_bytes: most memory in use at once beyond the inputs; None where it is not known.
        reference_bytes: the same of the reference.
        result_bytes: size of the output and, with backward, of the gradients.
    """

    shape: str
    direction: str
    native_seconds: float
    reference_seconds: float
    native_bytes: int | None
    reference_bytes: int | None
    result_bytes: int

    @property
    def ratio(self) -> float:
        """How many times faster native is."""
        return self.reference_seconds / self.native_seconds

    def as_dict(self) -> dict[str, str | float | int | None]:
        """All numbers, for JSON."""
        return {**asdict(self), "ratio": self.ratio}


def make_example(shape: str, batch: int = 1) -> Example:
    """Returns inputs of the size of a 640 x 640 image, float32 on the CPU.

    Encoder queries sample around their own cell, as in the network; decoder queries anywhere.

    Args:
        shape: "encoder" (8500 queries) or "decoder" (360 queries).
        batch: B.
    """
    random = torch.Generator().manual_seed(0)
    if shape == "encoder":
        centres = cell_centres(LEVELS)
    else:
        centres = torch.rand(DECODER_QUERIES, 2, generator=random)
    return random_example(
        LEVELS,
        batch=batch,
        heads=HEADS,
        channels=CHANNELS,
        points=POINTS,
        centres=centres,
        spread=_SPREAD,
    )


def bench_shape(
    shape: str,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    batch: int = 1,
    repeats: int = 7,
) -> list[Timing]:
    """Times forward, and forward with backward.

    Args:
        shape: "encoder" or "decoder".
        device: "cpu" or "cuda".
        dtype: of the values.
        batch: B.
        repeats: timed calls of each; one more before them is not counted.

    Raises:
        NativeOpsError: The native operators cannot be built.
    """
    example = make_example(shape, batch).to(device, dtype)
    timings = []
    for direction in ("forward", "forward+backward"):
        native, reference = (_call(example, direction, which) for which in ("native", "reference"))
        results = native()  # also builds, and warms up
        reference()
        times = interleaved_medians(
            (native, reference), repeats, device, before=lambda: example.value.mul_(1)
        )
        timings.append(
            Timing(
                shape=shape,
                direction=direction,
                native_seconds=times[0],
                reference_seconds=times[1],
                native_bytes=peak_memory(native, device),
                reference_bytes=peak_memory(reference, device),
                result_bytes=sum(tensor.nbytes for tensor in results),
            )
        )
    return timings


def _call(
    example: Example, direction: str, backend: Literal["native", "reference"]
) -> Callable[[], tuple[torch.Tensor, ...]]:
    if direction == "forward":
        return lambda: (example.forward(backend),)
    return partial(example.forward_backward, backend)


def interleaved_medians(
    calls: tuple[Callable[[], object], ...],
    repeats: int,
    device: str = "cpu",
    before: Callable[[], object] | None = None,
) -> list[float]:
    """Returns the median seconds of each call; every round runs all of them once.

    Args:
        calls: what to time.
        repeats: how many rounds.
        device: "cpu" or "cuda", which is waited for.
        before: runs before every call and is not timed.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, seconds in zip(calls, times, strict=True):
            if before is not None:
                before()
            _wait_for(device)
            started = time.perf_counter()
            call()
            _wait_for(device)
            seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in times]


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


@contextmanager
def cpu_threads(count: int | None) -> Iterator[int]:
    """Within the context PyTorch uses ``count`` threads, None leaves their number; yields it."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
