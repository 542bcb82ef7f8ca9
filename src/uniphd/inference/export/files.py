"""The formats of exported graphs, and how an export is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch.export import ExportedProgram

from uniphd.data.transforms import EvaluationTransform
from uniphd.errors import CheckpointError
from uniphd.inference.export.engine import FitCanvas, GraphEngine, Graphs
from uniphd.inference.export.graphs import Graph
from uniphd.inference.export.layout import GRAPHS, ExportFiles
from uniphd.inference.export.metadata import ExportMetadata, parse_metadata
from uniphd.inference.export.onnx_file import OnnxGraphs, onnx_bytes, optional
from uniphd.inference.export.pt2_file import Pt2Graphs, pt2_bytes
from uniphd.inference.texts import CarefulTokenizer
from uniphd.keypoints import keypoint_schema
from uniphd.models.build import build_tokenizer
from uniphd.training.fault_tolerance.files import replacing

_AT_ONCE = 4  # prompts, unless a number is given


class OpenGraphs(Graphs, Protocol):
    """Graphs that were read from files."""

    device: torch.device

    def metadata(self, graph: str) -> str | None:
        """What a graph's file says about itself."""
        ...


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        packages: that writing needs beside torch.
        to_bytes: the content of a file with one graph and its metadata.
        open: files by the graph's name, on a device.
    """

    packages: tuple[str, ...]
    to_bytes: Callable[[ExportedProgram, Graph, str], bytes]
    open: Callable[[Mapping[str, Path], torch.device | str], OpenGraphs]


_FORMATS: Mapping[str, Format] = {
    "onnx": Format(("onnx", "onnxscript"), onnx_bytes, OnnxGraphs),
    "pt2": Format((), pt2_bytes, Pt2Graphs),
}
"""By the suffix of the files."""


def require_packages(format: str) -> None:
    """Raise ConfigError where a package is missing that writing a format needs."""
    for package in _FORMATS[format].packages:
        optional(package)


def write_graph(path: Path, program: ExportedProgram, graph: Graph, metadata: str) -> None:
    """Write a traced graph in the format of the path's suffix.

    Raises:
        StorageError: the file cannot be written.
    """
    content = _FORMATS[path.suffix.removeprefix(".")].to_bytes(program, graph, metadata)
    with replacing(path) as file:
        file.write(content)


def open_graphs(
    files: ExportFiles, device: torch.device | str
) -> tuple[OpenGraphs, ExportMetadata]:
    """The graphs of an export, and what they say about themselves.

    Raises:
        CheckpointError: a file is missing or damaged, or they are of different exports.
        ConfigError: a package is missing, or the device cannot be used.
    """
    paths = {graph: files.path(graph) for graph in GRAPHS}
    for path in paths.values():
        if not path.is_file():
            raise CheckpointError(
                f"{path} is missing; an export has {', '.join(GRAPHS)}, all .{files.format}."
            )
    graphs = _FORMATS[files.format].open(paths, device)
    found = [parse_metadata(graphs.metadata(name), paths[name]) for name in GRAPHS]
    if len({metadata.identity for metadata in found}) > 1:
        raise CheckpointError(
            f"The files in {files.folder} are of different exports; export the network again."
        )
    return graphs, found[0]


def _checked() -> None:
    """That tokenizer and network belong together was checked by the export."""


def open_engine(
    files: ExportFiles, device: torch.device | str, batch_size: int | None
) -> tuple[GraphEngine, torch.device]:
    """What runs an export, and where; errors are those of `open_graphs`."""
    graphs, metadata = open_graphs(files, device)
    transform = EvaluationTransform(**metadata.config.preprocessing)
    engine = GraphEngine(
        tokenizer=CarefulTokenizer(build_tokenizer(metadata.config.tokenizer), _checked),
        transform=FitCanvas(transform, metadata.canvas),
        schema=keypoint_schema(metadata.config.keypoints),
        batch_size=batch_size or _AT_ONCE,
        graphs=graphs,
        canvas=metadata.canvas,
        queries=metadata.queries,
    )
    return engine, graphs.device
