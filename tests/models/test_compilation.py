"""Compiled parts compute what they compute as written, under the same names."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from tests.composition import TINY, compose_train
from uniphd.config.compose import build_network
from uniphd.errors import ConfigError
from uniphd.models.compilation import compile_parts, compiled_parts
from uniphd.models.encoder import EncoderLayer
from uniphd.models.tokenizer import HashTokenizer
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import PointPrompt, Prompt, TextPrompt, batch_prompts

POINT = PointPrompt(torch.tensor([20.0, 30.0]))
SHORT, LONG = TextPrompt("left"), TextPrompt("the tall man in a red shirt")


@pytest.fixture
def network() -> UniPHD:
    torch.manual_seed(0)
    network, _ = build_network(compose_train(None, *TINY, "data.root=unused"))
    return network


def results(network: UniPHD, height: int, width: int, prompts: list[Prompt]) -> list[Tensor]:
    """Final predictions, masks and gradients of a training step."""
    generator = torch.Generator().manual_seed(height)
    images = torch.randn(len(prompts), 3, height, width, generator=generator)
    padding = torch.zeros(len(prompts), height, width, dtype=torch.bool)
    batch = batch_prompts(prompts, HashTokenizer())
    network.zero_grad()
    predictions = network(images, padding, ((height, width),) * len(prompts), batch)
    final = predictions.final
    masks = network.mask_head(predictions.mask_features, final.embedding, final.centre)
    outputs = [final.logits, final.boxes, final.keypoints, final.visibility_logits, masks]
    sum(output.square().mean() for output in outputs).backward()  # type: ignore[union-attr]
    gradients = [value.grad for value in network.parameters() if value.grad is not None]
    return [value.detach() for value in (*outputs, *gradients)]


def test_compiling_is_in_place(network: UniPHD) -> None:
    names = list(network.state_dict())
    modules = [type(module) for module in network.modules()]
    parts = {id(part) for part in compiled_parts(network)}
    compile_parts(network, mode="default")
    assert list(network.state_dict()) == names
    assert [type(module) for module in network.modules()] == modules
    compiled = {id(part) for part in network.modules() if part._compiled_call_impl is not None}
    assert compiled == parts
    assert {id(layer) for layer in (*network.encoder.layers, *network.decoder.layers)} < parts
    twin = copy.deepcopy(network)  # as an average of the weights is made
    assert all(part._compiled_call_impl is None for part in twin.modules())


@pytest.mark.slow
def test_an_unknown_mode_is_refused(network: UniPHD) -> None:
    with pytest.raises(ConfigError, match=r"compile=fast is no mode.*default"):
        compile_parts(network, mode="fast")


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the compiler's
@pytest.mark.slow
def test_compiled_parts_agree_without_a_graph_break(network: UniPHD) -> None:
    """`fullgraph` makes a graph break an error."""
    torch.compiler.reset()
    written = copy.deepcopy(network)
    compile_parts(network, backend="aot_eager", fullgraph=True)
    for height, width, prompts in (
        (96, 128, [LONG, POINT, SHORT]),
        (128, 96, [SHORT, SHORT, POINT, LONG, LONG]),
    ):
        expected = results(written.eval(), height, width, prompts)
        actual = results(network.eval(), height, width, prompts)
        assert len(actual) == len(expected) > 100
        for one, other in zip(actual, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_generated_code_serves_all_sizes() -> None:
    """An encoder layer, which has the native operator, in C++: compiled once for three sizes."""
    torch.compiler.reset()
    torch.manual_seed(0)
    written = EncoderLayer(32, 4, 2, 4, 32, 0.0)
    layer = copy.deepcopy(written)
    layer.compile(dynamic=True, fullgraph=True)
    for batch, shapes in ((3, ((6, 8), (3, 4))), (5, ((8, 6), (4, 3))), (4, ((7, 9), (4, 5)))):
        tokens = sum(height * width for height, width in shapes)
        inputs = (torch.randn(batch, tokens, 32), torch.randn(batch, tokens, 32))
        reference, padding = torch.rand(batch, tokens, 2, 2), torch.zeros(batch, tokens) > 0
        with torch.compiler.set_stance("default" if batch == 3 else "fail_on_recompile"):
            actual = layer(*inputs, reference, shapes, padding)
        expected = written(*inputs, reference, shapes, padding)
        torch.testing.assert_close(actual, expected)
        gradients = [
            torch.autograd.grad(output.square().mean(), list(module.parameters()))
            for output, module in ((actual, layer), (expected, written))
        ]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
