"""The graphs without a file: what they compute is what the network computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.inference.differences import largest_difference
from uniphd.checkpoints.reading import load_model_and_config
from uniphd.data.transforms import EvaluationTransform
from uniphd.errors import PromptError
from uniphd.inference.export.engine import FitCanvas, GraphEngine, image_inputs
from uniphd.inference.export.graphs import Tensors, trace_graphs
from uniphd.inference.export.prompt_inputs import prompt_inputs
from uniphd.inference.image_input import ImageOptions, read_image_input
from uniphd.inference.predictor import Predictor
from uniphd.models.build import build_tokenizer
from uniphd.prompts import Prompt, PromptBatch, TextPrompt
from uniphd.prompts.base import Block
from uniphd.synthetic.annotations import AnnotatedScene


@pytest.fixture(scope="module")
def engine() -> GraphEngine:
    """The graphs' modules, run by PyTorch as they are."""
    network, config = load_model_and_config("synthetic_cpu")
    graphs = trace_graphs(network, (96, 96))

    def run(name: str, inputs: Tensors) -> Tensors:
        with torch.inference_mode():
            found: Tensors = graphs[name].module(**{k: inputs[k] for k in graphs[name].example})
        return found

    return GraphEngine(
        tokenizer=build_tokenizer(config.tokenizer),
        transform=FitCanvas(EvaluationTransform(**config.preprocessing), (96, 96)),
        schema=network.schema,
        batch_size=16,
        graphs=run,
        canvas=(96, 96),
        queries=4,
    )


@pytest.mark.parametrize("top_k", [1, 4, 10])
def test_mixed_prompts_get_what_the_network_gives(
    engine: GraphEngine,
    predictor: Predictor,
    square: AnnotatedScene,
    prompts: list[Prompt],
    top_k: int,
) -> None:
    expected = predictor.predict(square.image, prompts=prompts, top_k=top_k)
    encoded = engine.encode(read_image_input(square.image), ImageOptions())
    found = encoded.predict(prompts=prompts, top_k=top_k)
    assert [one.prompt for one in found] == prompts
    for one, other in zip(found, expected, strict=True):
        pairs = zip(one.candidates, other.candidates, strict=True)
        assert max(largest_difference(*pair) for pair in pairs) < 1e-5


def test_a_prompt_alone_gets_what_it_gets_beside_others(
    engine: GraphEngine, square: AnnotatedScene, prompts: list[Prompt]
) -> None:
    encoded = engine.encode(read_image_input(square.image), ImageOptions())
    together = encoded.predict(prompts=prompts[:7])
    for prompt, found in zip(prompts[:7], together, strict=True):
        assert largest_difference(encoded.predict(prompts=[prompt])[0], found) < 1e-5


def test_images_lie_top_left_on_the_canvas() -> None:
    image = torch.full((3, 20, 50), 7, dtype=torch.uint8)
    inputs = image_inputs(image, (32, 64))
    assert inputs["image"].shape == (1, 3, 32, 64)
    assert inputs["image"].sum() == 7 * 3 * 20 * 50
    assert not inputs["padding_mask"][0, :20, :50].any()
    assert int(inputs["padding_mask"].sum()) == 32 * 64 - 20 * 50


@pytest.mark.parametrize(
    ("size", "canvas", "expected"),
    [
        ((480, 640), (96, 96), (72, 96)),
        ((480, 640), (64, 96), (64, 85)),
        ((640, 480), (64, 96), (64, 48)),
        ((10, 4_000), (96, 32), (1, 32)),
    ],
)
def test_images_are_made_small_enough_for_the_canvas(
    size: tuple[int, int], canvas: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert FitCanvas(EvaluationTransform(96, 96), canvas).output_size(size) == expected


def test_kinds_that_the_graphs_do_not_know_are_refused() -> None:
    class OtherBlock(Block):
        pass

    with pytest.raises(PromptError, match="does not read a OtherBlock; give a text"):
        prompt_inputs(PromptBatch(("other",), {"other": OtherBlock()}), 8, dict)


def test_texts_of_other_lengths_are_padded() -> None:
    def encode(texts: Tensors) -> Tensors:
        shape = texts["input_ids"].shape
        return {"text_tokens": torch.ones(*shape, 8), "text_embedding": torch.ones(shape[0], 8)}

    _, config = load_model_and_config("synthetic_cpu")
    block = TextPrompt.collate(
        [TextPrompt("a man"), TextPrompt("a man with a hat")], build_tokenizer(config.tokenizer)
    )
    batch = PromptBatch(("text", "point", "text"), {"text": block})
    inputs = prompt_inputs(batch, 8, encode)
    lengths: Tensor = (~inputs["text_padding"]).sum(1)
    assert lengths.tolist() == [4, 0, 7]
    assert inputs["text_tokens"].shape == (3, 7, 8)
