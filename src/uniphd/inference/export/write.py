"""Exporting a network: its graphs into files."""

from __future__ import annotations

from pathlib import Path

from uniphd.checkpoints.folder import ModelConfig
from uniphd.checkpoints.pretrained import with_stored_tokenizer
from uniphd.checkpoints.reading import load_model_and_config, portable_config
from uniphd.data.transforms import EvaluationTransform
from uniphd.errors import ConfigError
from uniphd.inference.export.files import require_packages, write_graph
from uniphd.inference.export.graphs import trace_graphs
from uniphd.inference.export.layout import ExportFiles
from uniphd.inference.export.metadata import ExportMetadata, identify
from uniphd.inference.export.trace import plain_operators, trace
from uniphd.models.build import build_tokenizer
from uniphd.models.text_encoder import check_texts
from uniphd.ops.sampling import Sampling
from uniphd.refusals import refused
from uniphd.structures import Size

MULTIPLE = 32
"""Of which the canvas' sides are multiples."""


def export(
    model: str | Path,
    folder: Path,
    format: str = "onnx",
    canvas: Size | None = None,
    sampling: Sampling = "grid_sample",
) -> ExportFiles:
    """Write a network as graphs for other runtimes.

    Args:
        model: as for `Predictor`.
        folder: to write to, created when missing.
        format: "onnx" or "pt2".
        canvas: (height, width) of the images; None for the square that every image fits into.
        sampling: how maps are sampled, see `uniphd.ops.sampling`.

    Raises:
        CheckpointError: the network cannot be read.
        ConfigError: the canvas cannot be used, a package is missing, the tokenizer cannot be
            stored, or the network has a part that cannot be traced.
        StorageError: a file cannot be written; see `write_graph`.
    """
    require_packages(format)
    network, config = load_model_and_config(model)
    if canvas is None:
        side = -(-EvaluationTransform(**config.preprocessing).max_size // MULTIPLE) * MULTIPLE
        canvas = (side, side)
    if any(side < MULTIPLE or side % MULTIPLE for side in canvas):
        raise ConfigError(
            f"The canvas is {canvas[0]} x {canvas[1]} (height x width); give multiples of "
            f"{MULTIPLE}."
        )
    check_texts(network.prompt_encoder.text_encoder, build_tokenizer(config.tokenizer))
    portable, _ = with_stored_tokenizer(ModelConfig(**portable_config(config, network)), folder)
    metadata = ExportMetadata(
        config=portable,
        canvas=canvas,
        queries=network.query_selection.num_queries,
        sampling=sampling,
        identity=identify(network, canvas, sampling),
    )
    files = ExportFiles(folder, format)
    for name, graph in trace_graphs(network, canvas).items():
        text = metadata.to_json(network, name, graph.outputs)
        what = f"The graph {name} cannot be exported"
        with refused(what), plain_operators(sampling):
            write_graph(files.path(name), trace(graph), graph, text)
    return files
