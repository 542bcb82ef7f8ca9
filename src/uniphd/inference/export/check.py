"""Exported graphs beside the network: every output by its name, on a real image.

Random numbers are no test: a runtime may be right on them and wrong on photographs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from uniphd.checkpoints.reading import load_model_and_config
from uniphd.data.sample import image_tensor
from uniphd.data.transforms import EvaluationTransform
from uniphd.errors import CheckpointError
from uniphd.inference.detect import choose, mask_logits, top_queries
from uniphd.inference.export.engine import FitCanvas, image_inputs
from uniphd.inference.export.files import open_graphs
from uniphd.inference.export.graphs import ImageEncoder, Tensors
from uniphd.inference.export.layout import DECODER, IMAGE_ENCODER, TEXT_ENCODER, ExportFiles
from uniphd.inference.export.metadata import identify
from uniphd.inference.export.prompt_inputs import prompt_inputs
from uniphd.models.build import build_tokenizer
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import (
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    PromptBatch,
    ScribblePrompt,
    TextPrompt,
    batch_prompts,
)
from uniphd.structures import Size

TOLERANCE = 1e-3
"""Of errors, relative to an output's largest value (or 1)."""

_PEOPLE = 3  # per prompt, of which all is compared


@dataclass(frozen=True)
class OutputError:
    """How far an output is from the network's.

    Attributes:
        graph: whose output it is.
        output: its name.
        error: the largest difference.
        largest: the largest value, without its sign.
    """

    graph: str
    output: str
    error: float
    largest: float

    @property
    def within(self) -> bool:
        """Whether the error is tolerable; one that is no number is not."""
        return self.error <= TOLERANCE * max(1.0, self.largest)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "within": self.within}


def check_export(
    files: ExportFiles, model: str | Path, image: Image.Image, device: str = "cpu"
) -> list[OutputError]:
    """Compare an export's outputs with those of the network that it was made from.

    The graphs are a chain as in use: the decoder is given what the other two gave. The network is
    asked in its own way, with prompts of all kinds in a batch.

    Args:
        files: the export.
        model: what it was made from.
        image: RGB; prompts of every kind are asked about it.
        device: where the graphs run; the network is on the CPU.

    Raises:
        CheckpointError: a file is missing or damaged, or is of another network.
        ConfigError: a package is missing, or the device cannot be used.
    """
    graphs, metadata = open_graphs(files, device)
    network, config = load_model_and_config(model)
    if metadata.identity != identify(network, metadata.canvas, metadata.sampling):
        raise CheckpointError(f"{files.folder} was not made from {model}; export it again.")
    transform = FitCanvas(EvaluationTransform(**config.preprocessing), metadata.canvas)
    size = transform.output_size((image.height, image.width))
    pixels = image_tensor(image.resize(size[::-1], Image.Resampling.BILINEAR))
    block = batch_prompts(prompts_for(size), build_tokenizer(config.tokenizer))
    inputs = image_inputs(pixels, metadata.canvas)
    texts: dict[str, Tensors] = {}

    def encode_texts(given: Tensors) -> Tensors:
        texts.update(given=given, found=graphs(TEXT_ENCODER, given))
        return texts["found"]

    features = graphs(IMAGE_ENCODER, inputs)
    asked = prompt_inputs(block, features["tokens"].shape[-1], encode_texts)
    ranks = torch.arange(min(_PEOPLE, metadata.queries))
    people = graphs(DECODER, {**features, **asked, "ranks": ranks})
    found = {IMAGE_ENCODER: features, TEXT_ENCODER: texts["found"], DECODER: people}
    expected = _by_network(network, inputs, block, size, len(ranks))
    words = texts["given"]["attention_mask"].bool()
    parts = {"text_tokens": words}  # what a model makes of padding is never read
    return [
        _compare(graph, name, value, found[graph].get(name), parts.get(name))
        for graph, outputs in expected.items()
        for name, value in outputs.items()
    ]


def prompts_for(size: Size) -> list[Prompt]:
    """One of every kind, and further texts and strokes of other lengths, for any image."""
    height, width = size
    centre = torch.tensor([width / 2, height / 2])
    reach = torch.tensor([width / 8, height / 4])
    steps = torch.linspace(-1, 1, 9).unsqueeze(1)
    mask = torch.zeros(size, dtype=torch.bool)
    mask[height // 4 : 1 + 3 * height // 4, width // 3 : 1 + 2 * width // 3] = True
    return [
        TextPrompt("the person on the left"),
        PointPrompt(centre),
        ScribblePrompt(centre + steps * reach),
        BoxPrompt(torch.cat([centre - reach, centre + reach])),
        MaskPrompt(mask),
        TextPrompt("a tall man in a dark shirt who stands beside the woman with a bag"),
        PointPrompt(centre / 2),
    ]


@torch.inference_mode()
def _by_network(
    network: UniPHD, image: Tensors, prompts: PromptBatch, size: Size, top_k: int
) -> Mapping[str, Tensors]:
    """What the graphs ought to give."""
    encoded = network.encode(image["image"], image["padding_mask"])
    ((_, block),) = prompts.texts
    text = network.prompt_encoder.encode_text(block)
    count = len(prompts)
    predictions = network.predict(encoded, (size,) * count, prompts, (0,) * count)
    best = top_queries(predictions.final.logits, top_k)
    masks = mask_logits(network, predictions, best)
    return {
        IMAGE_ENCODER: ImageEncoder.named(encoded, image["padding_mask"]),
        TEXT_ENCODER: {"text_tokens": text.tokens, "text_embedding": text.global_embedding},
        DECODER: {**choose(predictions.final, best)._asdict(), "mask_logits": masks},
    }


def _compare(
    graph: str, name: str, expected: Tensor, found: Tensor | None, part: Tensor | None
) -> OutputError:
    """The difference, perhaps of a part; infinite for what is missing or has another shape."""
    if found is None or found.shape != expected.shape:
        return OutputError(graph, name, math.inf, float(expected.double().abs().max()))
    expected, found = expected.double(), found.cpu().double()
    if part is not None:
        expected, found = expected[part], found[part]
    return OutputError(
        graph, name, float((found - expected).abs().max()), float(expected.abs().max())
    )
