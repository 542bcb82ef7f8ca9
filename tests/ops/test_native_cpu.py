"""The native CPU operator against the loop and the reference, forward and all gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from tests.ops.loop import ODD, Call, Shapes, loop, make_call, op_arguments
from uniphd.ops import ms_deform_attn
from uniphd.ops.reference import ms_deform_attn_reference

pytestmark = pytest.mark.usefixtures("native")

NAMES = ("output", "gradient of value", "gradient of locations", "gradient of weights")
# Roundings of the sums (float32, float64) and of the stored result (halves), per largest number.
TOLERANCES = {
    torch.float64: 1e-13,
    torch.float32: 3e-6,
    torch.float16: 6e-4,
    torch.bfloat16: 5e-3,
}


def both_ways(call: Call, grad_output: Tensor, backend: str) -> tuple[Tensor, ...]:
    """The output and the gradients of value, locations and weights."""
    leaves = call.leaves()
    output = ms_deform_attn(*leaves, backend=backend)
    return output.detach(), *torch.autograd.grad(output, leaves.tensors, grad_output)


def assert_native_is_right(call: Call, grad_output: Tensor | None = None) -> None:
    """Compares with the reference in float64, for the same rounded inputs."""
    if grad_output is None:
        batch, queries = call.locations.shape[:2]
        shape = (batch, queries, call.value.shape[2] * call.value.shape[3])
        random = torch.Generator().manual_seed(1)
        grad_output = torch.randn(shape, generator=random).to(call.value.dtype)
    got = both_ways(call, grad_output, "native")
    wide = call.to(torch.float64, torch.float64)
    expected = both_ways(wide, grad_output.double(), "reference")
    dtypes = (call.value.dtype, call.value.dtype, call.locations.dtype, call.weights.dtype)
    for name, one, other, dtype in zip(NAMES, got, expected, dtypes, strict=True):
        assert one.dtype == dtype, name
        assert one.shape == other.shape, name
        if one.numel():
            error = (one.double() - other).abs().max() / other.abs().max().clamp_min(1e-30)
            assert error <= TOLERANCES[dtype], f"{name}: error {error:.1e}"


def call_for(dtype: torch.dtype, **sizes: int) -> Call:
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    return make_call(**sizes).to(dtype, sums)


def test_equals_the_loop() -> None:
    call = make_call(queries=5)
    np.testing.assert_allclose(ms_deform_attn(*call, backend="native"), loop(call), atol=1e-13)


@pytest.mark.parametrize("channels", [1, 7, 8, 16, 32, 33, 64, 100])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_channels_and_dtypes(dtype: torch.dtype, channels: int) -> None:
    assert_native_is_right(call_for(dtype, channels=channels))


@pytest.mark.parametrize(
    "shapes",
    [((1, 1),), ((1, 17),), ((17, 1),), ((2, 2), (1, 1), (31, 3)), ((40, 40), (20, 20))],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sizes_of_levels(dtype: torch.dtype, shapes: Shapes) -> None:
    sums = torch.float32
    assert_native_is_right(make_call(shapes, queries=40).to(dtype, sums))


@pytest.mark.parametrize("points", [1, 2, 4, 5, 8])
@pytest.mark.parametrize("heads", [1, 8])
def test_points_and_heads(heads: int, points: int) -> None:
    assert_native_is_right(call_for(torch.float32, heads=heads, points=points, queries=17))


@pytest.mark.parametrize("queries", [1, 7, 8, 9, 16, 17, 65])
def test_queries_that_do_not_fill_a_tile(queries: int) -> None:
    assert_native_is_right(call_for(torch.float32, queries=queries))


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"queries": 0}, {"points": 0}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_nothing_to_sample(dtype: torch.dtype, sizes: dict[str, int]) -> None:
    call = call_for(dtype, **sizes).leaves()
    output = ms_deform_attn(*call, backend="native")
    assert output.shape == (call.value.shape[0], call.locations.shape[1], 24)
    output.sum().backward()
    assert not output.count_nonzero()
    for tensor in call.tensors:
        assert tensor.grad is not None
        assert tensor.grad.shape == tensor.shape
        assert not tensor.grad.count_nonzero()


def test_all_points_outside() -> None:
    call = call_for(torch.float32)
    call.locations.copy_(torch.where(call.locations > 0.5, 2.0, -1.0))
    for result in both_ways(call, torch.ones(2, 11, 24), "native"):
        assert not result.count_nonzero()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30])
def test_locations_that_are_no_place_touch_nothing(number: float) -> None:
    call = call_for(torch.float32)
    call.locations[..., 0] = number
    for result in both_ways(call, torch.ones(2, 11, 24), "native"):
        assert not result.count_nonzero()


def test_points_exactly_on_centres_and_borders() -> None:
    """Where a rounding decides between two cells both must agree (numbers exact in binary)."""
    call = make_call(((4, 8), (2, 2)), queries=25).to(torch.float32, torch.float32)
    random = torch.Generator().manual_seed(0)
    steps = torch.randint(-2, 19, call.locations.shape, generator=random)
    call.locations.copy_(steps / 16)
    got = ms_deform_attn(*call, backend="native")
    torch.testing.assert_close(got, torch.from_numpy(loop(call)).float(), atol=1e-5, rtol=0)


def test_inputs_that_are_not_contiguous() -> None:
    call = call_for(torch.float32, channels=16)
    value = call.value.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0)
    locations = call.locations[:, :1].expand(-1, 11, -1, -1, -1, -1)
    weights = call.weights.repeat_interleave(2, -1)[..., ::2]
    grad_output = torch.randn(48, 11, 2, generator=torch.Generator().manual_seed(0)).permute(
        2, 1, 0
    )
    strided = Call(value, call.shapes, locations, weights)
    assert not any(tensor.is_contiguous() for tensor in (*strided.tensors, grad_output))
    assert_native_is_right(strided, grad_output)


def test_a_gradient_that_is_one_number() -> None:
    """``sum().backward()`` hands over a tensor of strides zero."""
    call = call_for(torch.float32)
    assert_native_is_right(call, torch.ones(()).expand(2, 11, 24))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("batch", "heads"), [(1, 1), (1, 3), (2, 3), (2, 8)])
@pytest.mark.usefixtures("keep_threads")
def test_results_do_not_depend_on_the_threads(dtype: torch.dtype, batch: int, heads: int) -> None:
    call = call_for(dtype, batch=batch, heads=heads, queries=50, channels=33)
    grad_output = torch.randn(batch, 50, heads * 33).to(dtype)
    torch.set_num_threads(1)
    expected = both_ways(call, grad_output, "native")
    for threads in (2, 3, 5):
        torch.set_num_threads(threads)
        for name, one, other in zip(
            NAMES, both_ways(call, grad_output, "native"), expected, strict=True
        ):
            assert torch.equal(one, other), f"{name} with {threads} threads"


def test_gradients_by_finite_differences() -> None:
    call = make_call(((3, 2), (1, 1)), batch=1, queries=2, heads=2, channels=5, points=2).leaves()
    assert gradcheck(
        lambda *tensors: ms_deform_attn(tensors[0], call.shapes, *tensors[1:], backend="native"),
        call.tensors,
    )


def test_only_the_gradients_that_are_asked_for() -> None:
    call = call_for(torch.float32)
    call.weights.requires_grad_()
    ms_deform_attn(*call, backend="native").sum().backward()
    assert call.value.grad is None
    expected = call_for(torch.float32).leaves()
    ms_deform_attn_reference(*expected).sum().backward()
    torch.testing.assert_close(call.weights.grad, expected.weights.grad, atol=1e-5, rtol=1e-5)


def test_no_second_derivative() -> None:
    call = make_call().leaves()
    output = ms_deform_attn(*call, backend="native")
    (gradient,) = torch.autograd.grad(output.sum(), call.value, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivative"):
        gradient.sum().backward()


def test_inference_before_training() -> None:
    """Tensors that an inference run leaves behind can be saved for the backward of a later one."""
    call = make_call(((3, 14),), seed=5)
    with torch.inference_mode():
        first = ms_deform_attn(*call, backend="native")
    leaves = call.leaves()
    output = ms_deform_attn(*leaves, backend="native")
    output.sum().backward()
    assert torch.equal(first.clone(), output)


def test_sizes_of_images_in_turn() -> None:
    """The small tensors of one list of levels are not taken for another of the same area."""
    for shapes in (((2, 6), (3, 1)), ((6, 2), (1, 3)), ((2, 6), (3, 1))):
        call = make_call(shapes)
        np.testing.assert_allclose(ms_deform_attn(*call, backend="native"), loop(call), atol=1e-13)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_autocast_rounds_the_values_only(backend: str) -> None:
    call = call_for(torch.float32, channels=32)
    with torch.autocast("cpu", torch.bfloat16):
        output = ms_deform_attn(*call, backend=backend)
    assert output.dtype == torch.bfloat16
    expected = ms_deform_attn_reference(
        call.value.bfloat16().double(), ODD, call.locations.double(), call.weights.double()
    )
    error = (output.double() - expected).abs().max() / expected.abs().max()
    assert error <= TOLERANCES[torch.bfloat16]


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_autocast_leaves_float64_alone(backend: str) -> None:
    call = make_call()
    with torch.autocast("cpu", torch.bfloat16):
        output = ms_deform_attn(*call, backend=backend)
    np.testing.assert_allclose(output, loop(call), atol=1e-13)


def test_locations_of_half_precision_are_widened() -> None:
    call = make_call()
    halves = call.to(torch.bfloat16, torch.bfloat16)
    widened = Call(halves.value, call.shapes, halves.locations.float(), halves.weights.float())
    assert torch.equal(
        ms_deform_attn(*halves, backend="native"), ms_deform_attn(*widened, backend="native")
    )


def test_operator_refuses_arguments_of_other_types() -> None:
    value, shapes, starts, locations, weights = op_arguments(make_call(dtype=torch.float32))
    run = torch.ops.uniphd.ms_deform_attn
    with pytest.raises(RuntimeError, match="must be Float for a value of BFloat16"):
        run(value.bfloat16(), shapes, starts, locations.bfloat16(), weights.bfloat16())
    with pytest.raises(RuntimeError, match="spatial_shapes must be"):
        run(value, shapes.int(), starts, locations, weights)
    with pytest.raises(RuntimeError, match="attention_weights must be"):
        run(value, shapes, starts, locations, weights[:, :-1])


@pytest.mark.parametrize(
    ("sizes", "starts"),
    [
        ([[2, 3], [2, 2]], [0, 5]),  # overlapping
        ([[2, 3], [2, 3]], [0, 6]),  # too many tokens
        ([[2, 3], [1, 2]], [0, 6]),  # too few
        ([[2, 3], [0, 4]], [0, 6]),  # empty
        ([[2, 3], [-1, -4]], [0, 6]),
        ([[2, 3], [2**32, 2**32]], [0, 6]),  # their product is 0 in 64 bits
    ],
)
def test_operator_reads_nothing_outside_its_memory(
    sizes: list[list[int]], starts: list[int]
) -> None:
    value, _, _, locations, weights = op_arguments(make_call(((2, 3), (2, 2)), dtype=torch.float32))
    arguments = (value, torch.tensor(sizes), torch.tensor(starts), locations, weights)
    with pytest.raises(RuntimeError, match=r"level|tokens"):
        torch.ops.uniphd.ms_deform_attn(*arguments)
    with pytest.raises(RuntimeError, match=r"level|tokens"):
        torch.ops.uniphd.ms_deform_attn_backward(torch.ones(2, 11, 24), *arguments)


def test_backward_refuses_a_gradient_of_another_shape() -> None:
    arguments = op_arguments(make_call(dtype=torch.float32))
    for gradient in (torch.ones(2, 10, 24), torch.ones(2, 11, 25), torch.ones(2, 11, 24).double()):
        with pytest.raises(RuntimeError, match="grad_output must"):
            torch.ops.uniphd.ms_deform_attn_backward(gradient, *arguments)
