"""The native CUDA operator on a device: values, gradients, streams, graphs, determinism."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from tests.ops.loop import ODD, Call, Shapes, make_call, op_arguments
from uniphd.ops import ms_deform_attn
from uniphd.ops.reference import accumulation_dtype

pytestmark = pytest.mark.gpu

ENCODER: Shapes = ((80, 80), (40, 40), (20, 20), (10, 10))
# Roundings of places (float32: up to half a unit in the last place of 80, which moves the weights
# of the four neighbours), of sums (float64) and of stored results (halves), per largest number.
TOLERANCES = {
    torch.float64: 1e-13,
    torch.float32: 2e-5,
    torch.float16: 6e-4,
    torch.bfloat16: 5e-3,
}


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def on(device: torch.device, call: Call) -> Call:
    return Call(
        call.value.to(device), call.shapes, call.locations.to(device), call.weights.to(device)
    )


def gradient_for(call: Call) -> Tensor:
    batch, queries = call.locations.shape[:2]
    size = (batch, queries, call.value.shape[2] * call.value.shape[3])
    random = torch.Generator().manual_seed(1)
    return torch.randn(size, generator=random).to(call.value)


def both_ways(call: Call, grad_output: Tensor, backend: str = "native") -> tuple[Tensor, ...]:
    leaves = call.leaves()
    output = ms_deform_attn(*leaves, backend=backend)
    return output.detach(), *torch.autograd.grad(output, leaves.tensors, grad_output)


def assert_close(got: Sequence[Tensor], call: Call, grad_output: Tensor) -> None:
    """Compares with the reference in float64 for the same rounded inputs."""
    wide = call.to(torch.float64, torch.float64)
    expected = both_ways(wide, grad_output.double(), "reference")
    errors = [(one.double() - other).abs() for one, other in zip(got, expected, strict=True)]
    errors[2] *= ~between_cells(wide)
    dtypes = (call.value.dtype, call.value.dtype, call.locations.dtype, call.weights.dtype)
    for one, error, other, dtype in zip(got, errors, expected, dtypes, strict=True):
        assert one.dtype == dtype
        assert one.shape == other.shape
        worst = error.max() / other.abs().max()
        assert worst <= TOLERANCES[dtype], f"error {worst:.1e}"


def between_cells(call: Call) -> Tensor:
    """(B, Q, H, L, P, 1): where rounding decides the cell, and with it the location's gradient."""
    size = torch.tensor([shape[::-1] for shape in call.shapes], device=call.locations.device)
    pixel = call.locations * size[:, None] - 0.5
    return ((pixel - pixel.round()).abs() < 1e-4).any(-1, keepdim=True)


@pytest.mark.parametrize("channels", [1, 7, 8, 16, 32, 33, 40, 64, 160])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_channels_and_dtypes(cuda: torch.device, dtype: torch.dtype, channels: int) -> None:
    call = on(cuda, make_call(channels=channels).to(dtype, accumulation_dtype(dtype)))
    grad_output = gradient_for(call)
    assert_close(both_ways(call, grad_output), call, grad_output)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_size_of_the_encoder(cuda: torch.device, dtype: torch.dtype) -> None:
    call = make_call(ENCODER, batch=2, queries=8500, heads=8, channels=32, points=4)
    call = on(cuda, call.to(dtype, accumulation_dtype(dtype)))
    grad_output = gradient_for(call)
    assert_close(both_ways(call, grad_output), call, grad_output)


@pytest.mark.parametrize("points", [1, 2, 5, 9])
@pytest.mark.parametrize("heads", [1, 8])
@pytest.mark.parametrize("queries", [1, 33])
def test_points_heads_and_queries(
    cuda: torch.device, queries: int, heads: int, points: int
) -> None:
    call = on(cuda, make_call(queries=queries, heads=heads, points=points))
    grad_output = gradient_for(call)
    assert_close(both_ways(call, grad_output), call, grad_output)


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"queries": 0}, {"points": 0}], ids=str)
def test_nothing_to_sample(cuda: torch.device, sizes: dict[str, int]) -> None:
    call = on(cuda, make_call(dtype=torch.float32, **sizes))
    for tensor in both_ways(call, gradient_for(call)):
        assert not tensor.any()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1e30])
def test_locations_that_are_no_place_touch_nothing(cuda: torch.device, number: float) -> None:
    call = on(cuda, make_call(dtype=torch.float32))
    call.locations.fill_(number)
    output = ms_deform_attn(*call, backend="native")
    assert not output.any()


def test_inputs_that_are_not_contiguous_or_aligned(cuda: torch.device) -> None:
    call = on(cuda, make_call(channels=32, dtype=torch.float32))
    shifted = torch.empty(call.value.numel() + 1, device=cuda)[1:].view_as(call.value)
    strided = Call(
        shifted.copy_(call.value),
        call.shapes,
        call.locations.movedim(1, 0).contiguous().movedim(0, 1),
        call.weights.movedim(2, 1).contiguous().movedim(1, 2),
    )
    grad_output = gradient_for(call)
    turned = grad_output.transpose(1, 2).contiguous().transpose(1, 2)
    assert_close(both_ways(strided, turned), call, grad_output)


def test_images_of_two_sizes_in_a_row(cuda: torch.device) -> None:
    for shapes in (ODD, ENCODER, ODD):
        call = on(cuda, make_call(shapes, channels=32, dtype=torch.float32))
        grad_output = gradient_for(call)
        assert_close(both_ways(call, grad_output), call, grad_output)


def test_a_stream_of_ones_own(cuda: torch.device) -> None:
    call = on(cuda, make_call(ENCODER, queries=4000, heads=8, channels=32, dtype=torch.float32))
    grad_output = gradient_for(call)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # what runs on another stream would be early
        late = call.value * 2
        got = both_ways(Call(late, *call[1:]), grad_output)
    stream.synchronize()
    assert_close(got, Call(call.value * 2, *call[1:]), grad_output)


def test_nothing_waits_for_the_device(cuda: torch.device) -> None:
    call = on(cuda, make_call(dtype=torch.float32))
    grad_output = gradient_for(call)
    both_ways(call, grad_output)
    torch.cuda.set_sync_debug_mode("error")
    try:
        both_ways(call, grad_output)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("warm", [True, False], ids=["known sizes", "new sizes"])
def test_cuda_graph(cuda: torch.device, warm: bool) -> None:
    shapes = ((9, 8), (5, 4)) if warm else ((11, 8), (3, 4))
    call = on(cuda, make_call(shapes, channels=32, dtype=torch.float32))
    grad_output = gradient_for(call)
    leaves = call.leaves()

    def step() -> tuple[Tensor, ...]:
        output = ms_deform_attn(*leaves, backend="native")
        return output, *torch.autograd.grad(output, leaves.tensors, grad_output)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        if warm:
            step()
        else:  # the kernels are loaded, but the sizes of the levels are not on the device
            both_ways(on(cuda, make_call(channels=32, dtype=torch.float32)), grad_output[:, :11])
            torch.cat([torch.full((1,), 1, device=cuda), torch.full((1,), 2, device=cuda)])
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    other = on(cuda, make_call(shapes, channels=32, dtype=torch.float32, seed=5))
    for leaf, tensor in zip(leaves.tensors, other.tensors, strict=True):
        leaf.detach().copy_(tensor)
    graph.replay()
    torch.cuda.synchronize()
    assert_close([tensor.detach() for tensor in captured], other, grad_output)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_deterministic_algorithms(cuda: torch.device, dtype: torch.dtype) -> None:
    call = make_call(ENCODER, queries=2000, heads=4, channels=40, points=4)
    call = on(cuda, call.to(dtype, accumulation_dtype(dtype)))
    grad_output = gradient_for(call)
    with deterministic_algorithms():
        first, *others = [both_ways(call, grad_output) for _ in range(4)]
    assert_close(first, call, grad_output)
    for other in others:
        assert all(torch.equal(*pair) for pair in zip(first, other, strict=True))


def test_gradients_by_finite_differences(cuda: torch.device) -> None:
    call = on(cuda, make_call(((4, 3), (2, 2)), batch=1, queries=3, heads=2, channels=2))
    # Away from the borders of cells, where the operator has no derivative.
    size = torch.tensor([(width, height) for height, width in call.shapes], device=cuda)
    pixel = call.locations * size[:, None] - 0.5
    pixel = pixel.floor() + (pixel - pixel.floor()).clamp(0.1, 0.9)
    call = Call(call.value, call.shapes, (pixel + 0.5) / size[:, None], call.weights).leaves()
    assert gradcheck(
        lambda value, locations, weights: ms_deform_attn(
            value, call.shapes, locations, weights, backend="native"
        ),
        call.tensors,
        nondet_tol=1e-12,
    )


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # opcheck's own
def test_opcheck(cuda: torch.device) -> None:
    call = make_call(dtype=torch.float32).leaves()
    arguments = tuple(tensor.detach().to(cuda) for tensor in op_arguments(call))
    for index in (0, 3, 4):
        arguments[index].requires_grad_()
    with deterministic_algorithms():  # opcheck compares two runs
        torch.library.opcheck(torch.ops.uniphd.ms_deform_attn.default, arguments)


def test_compiles_into_one_graph(cuda: torch.device) -> None:
    call = on(cuda, make_call(channels=32, dtype=torch.float32))
    grad_output = gradient_for(call)
    leaves = call.leaves()

    @torch.compile(fullgraph=True)
    def compiled(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ms_deform_attn(value, call.shapes, locations, weights, backend="native")

    output = compiled(*leaves.tensors)
    gradients = torch.autograd.grad(output, leaves.tensors, grad_output)
    assert_close((output.detach(), *gradients), call, grad_output)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_rounds_the_values_only(cuda: torch.device, dtype: torch.dtype) -> None:
    call = on(cuda, make_call(channels=32, dtype=torch.float32))
    with torch.autocast("cuda", dtype=dtype):
        output = ms_deform_attn(*call, backend="native")
    rounded = ms_deform_attn(
        call.value.to(dtype), call.shapes, call.locations, call.weights, backend="native"
    )
    assert torch.equal(output, rounded)


def test_all_devices(cuda: torch.device) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    call = on(torch.device("cuda", 1), make_call(dtype=torch.float32))
    grad_output = gradient_for(call)  # while cuda:0 is the current device
    assert_close(both_ways(call, grad_output), call, grad_output)


def test_more_elements_than_32_bits_count(cuda: torch.device) -> None:
    if torch.cuda.mem_get_info()[0] < 8e9:
        pytest.skip("needs 8 GB of free device memory")
    shapes = ((128, 128),)
    batch, heads, channels = 2, 512, 144  # 2.4e9 elements of value
    random = torch.Generator(device=cuda).manual_seed(0)
    value = torch.empty(batch, 128 * 128, heads, channels, dtype=torch.bfloat16, device=cuda)
    value[1, -1, -1] = 3.0
    locations = torch.rand(batch, 4, heads, 1, 2, 2, device=cuda, generator=random)
    locations[1, -1, -1] = 1.0 - 0.5 / 128  # the centre of the last cell
    weights = torch.full(locations.shape[:-1], 0.5, device=cuda)
    output = ms_deform_attn(value, shapes, locations, weights, backend="native")
    assert torch.equal(output[1, -1, -channels:], torch.full_like(value[1, -1, -1], 3.0))
