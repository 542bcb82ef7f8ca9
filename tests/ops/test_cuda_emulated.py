"""The CUDA kernels' own source, compiled for the host and run lane by lane (emulation/).

What it proves without a GPU: index arithmetic, the hand-over through shared memory, shuffles,
barriers that every lane meets, and the gradients. Every case runs with the lanes in both orders: a
missing barrier makes the results differ.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.ops.loop import Call, make_call, op_arguments
from uniphd.ops import ms_deform_attn
from uniphd.ops.plan import source_folder
from uniphd.ops.reference import accumulation_dtype

TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # the order of ValueType
TOLERANCES = {
    torch.float32: 2e-5,
    torch.float64: 1e-12,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    here = Path(__file__).with_name("emulation")
    target = tmp_path_factory.mktemp("emulation") / "kernels.so"
    options = ["-O1", "-std=c++17", "-shared", "-fPIC", "-Wno-unknown-pragmas"]
    folders = [f"-I{here}", f"-I{source_folder() / 'cuda'}"]
    command = ["g++", *options, *folders, str(here / "emulate.cpp"), "-o", str(target)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(target))


def pointers(*tensors: Tensor) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def emulate(
    kernels: ctypes.CDLL, call: Call, grad_output: Tensor, *, ordered: bool, reverse: bool
) -> tuple[Tensor, ...]:
    """The output and the gradients of value, locations and weights; what is not written is NaN."""
    batch, tokens, heads, channels = call.value.shape
    queries, _, levels, points = call.locations.shape[1:5]
    sizes = (ctypes.c_int64 * 7)(batch, tokens, heads, channels, queries, levels, points)
    arguments = op_arguments(call)
    inputs = pointers(*arguments)
    kind = TYPES.index(call.value.dtype)
    output = torch.full_like(grad_output, torch.nan)
    grad_value = torch.zeros(call.value.shape, dtype=call.locations.dtype)
    grad_locations = torch.full_like(call.locations, torch.nan)
    grad_weights = torch.full_like(call.weights, torch.nan)
    address = ctypes.c_void_p(output.data_ptr())
    assert kernels.emulate_forward(kind, sizes, inputs, address, int(reverse)) == 0
    gradients = pointers(grad_output, grad_value, grad_locations, grad_weights)
    status = kernels.emulate_backward(kind, sizes, inputs, gradients, int(ordered), int(reverse))
    assert status == 0
    return output, grad_value, grad_locations, grad_weights


def assert_kernels_are_right(kernels: ctypes.CDLL, call: Call) -> None:
    tolerance = TOLERANCES[call.value.dtype]
    size = (call.value.shape[0], call.locations.shape[1], call.value.shape[2:].numel())
    random = torch.Generator().manual_seed(1)
    grad_output = torch.randn(size, generator=random).to(call.value.dtype)
    wide = call.to(torch.float64, torch.float64).leaves()
    output = ms_deform_attn(*wide, backend="reference")
    gradients = torch.autograd.grad(output, wide.tensors, grad_output.double())
    for ordered in (False, True):
        one, other = (
            emulate(kernels, call, grad_output, ordered=ordered, reverse=reverse)
            for reverse in (False, True)
        )
        for first, second, wanted in zip(one, other, (output, *gradients), strict=True):
            torch.testing.assert_close(first.double(), wanted, rtol=tolerance, atol=tolerance)
            torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance)
        if ordered:  # the order of the sums is fixed then
            assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("dtype", "channels"),
    [(dtype, channels) for dtype in TYPES for channels in (8, 32, 33)]
    + [(torch.float32, 2), (torch.float32, 16), (torch.float32, 40), (torch.float32, 64)],
    ids=str,
)
def test_channels_and_dtypes(kernels: ctypes.CDLL, dtype: torch.dtype, channels: int) -> None:
    call = make_call(channels=channels, heads=2, queries=5)
    assert_kernels_are_right(kernels, call.to(dtype, accumulation_dtype(dtype)))


def test_more_samples_than_a_tile_and_more_queries_than_a_block(kernels: ctypes.CDLL) -> None:
    shapes = [(6, 9), (5, 5), (3, 2), (1, 4), (2, 1)]
    call = make_call(shapes, channels=32, heads=2, queries=37, points=5, dtype=torch.float32)
    assert_kernels_are_right(kernels, call)


def test_more_channels_than_a_warp_loads_at_once(kernels: ctypes.CDLL) -> None:
    call = make_call(channels=140, heads=1, queries=3, points=2, dtype=torch.float32)
    assert_kernels_are_right(kernels, call)


@pytest.mark.parametrize("sizes", [{"queries": 0}, {"batch": 0}, {"points": 0}], ids=str)
def test_nothing_to_sample(kernels: ctypes.CDLL, sizes: dict[str, int]) -> None:
    call = make_call(channels=8, dtype=torch.float32, **sizes)
    grad_output = torch.ones(call.value.shape[0], call.locations.shape[1], 24)
    for ordered in (False, True):
        results = emulate(kernels, call, grad_output, ordered=ordered, reverse=False)
        assert all(bool((tensor == 0).all()) for tensor in results)
