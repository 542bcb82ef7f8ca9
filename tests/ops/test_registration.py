"""What PyTorch asks of an operator: fake tensors, autograd, compiling, exporting."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.ops.loop import ODD, Call, make_call, op_arguments
from uniphd.ops import ms_deform_attn

pytestmark = pytest.mark.usefixtures("native")


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # opcheck's own
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_opcheck_forward(dtype: torch.dtype) -> None:
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    arguments = op_arguments(make_call().to(dtype, sums).leaves())
    torch.library.opcheck(torch.ops.uniphd.ms_deform_attn.default, arguments)


def test_opcheck_backward() -> None:
    arguments = op_arguments(make_call(dtype=torch.float32))
    torch.library.opcheck(
        torch.ops.uniphd.ms_deform_attn_backward.default, (torch.ones(2, 11, 24), *arguments)
    )


class Attention(nn.Module):
    """The operator between two tensor operations, as a network has it."""

    def forward(self, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        attended = ms_deform_attn(
            value * 2, ODD, locations.sigmoid(), weights.softmax(-1), backend="native"
        )
        return attended.square()


def gradients(run: nn.Module, call: Call) -> list[Tensor]:
    leaves = call.leaves()
    output = run(*leaves.tensors)
    output.sum().backward()
    return [output.detach(), *(leaf.grad for leaf in leaves.tensors if leaf.grad is not None)]


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_into_one_graph(dynamic: bool) -> None:
    torch.compiler.reset()
    compiled = torch.compile(Attention(), backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for queries in (11, 6):
        call = make_call(queries=queries)
        results = gradients(compiled, call)
        assert len(results) == 4
        for one, other in zip(results, gradients(Attention(), call), strict=True):
            torch.testing.assert_close(one, other)


def test_exports_with_any_number_of_queries() -> None:
    call = make_call()
    queries = torch.export.Dim("queries", min=2, max=1000)
    exported = torch.export.export(
        Attention(), call.tensors, dynamic_shapes=({}, {1: queries}, {1: queries})
    )
    names = {str(node.target) for node in exported.graph.nodes}
    assert "uniphd.ms_deform_attn.default" in names
    other = make_call(queries=29, seed=1)
    torch.testing.assert_close(exported.module()(*other.tensors), Attention()(*other.tensors))


def test_onnx_export_takes_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    exported = torch.export.export(Attention(), make_call().tensors)
    names = {str(node.target) for node in exported.graph.nodes}
    assert "aten.grid_sampler_2d.default" in names or "aten.grid_sampler.default" in names
    assert not any("uniphd" in name for name in names)
