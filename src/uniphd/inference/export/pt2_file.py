"""Graphs as `torch.export` keeps them, and PyTorch to run them."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch
import torchvision  # noqa: F401 - it has the operator that reads boxes
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from uniphd.errors import CheckpointError
from uniphd.inference.devices import find_device
from uniphd.inference.export.graphs import Graph, Tensors
from uniphd.inference.export.metadata import METADATA_KEY
from uniphd.refusals import reason


def pt2_bytes(program: ExportedProgram, graph: Graph, metadata: str) -> bytes:
    """A file of `torch.export.save` with a graph."""
    buffer = BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA_KEY: metadata})
    return buffer.getvalue()


class Pt2Graphs:
    """The graphs of an export in PyTorch.

    Args:
        files: by the graph's name.
        device: see `find_device`.

    Attributes:
        device: on which they run.

    Raises:
        CheckpointError: a file is none of `torch.export`.
        ConfigError: there is no such device.
    """

    def __init__(self, files: Mapping[str, Path], device: torch.device | str) -> None:
        self.device = find_device(device)
        self._modules: dict[str, torch.fx.GraphModule] = {}
        self._metadata: dict[str, str] = {}
        for name, file in files.items():
            extra = {METADATA_KEY: ""}
            try:
                program = torch.export.load(file, extra_files=extra)
                if self.device.type != "cpu":
                    program = move_to_device_pass(program, self.device)
                self._modules[name] = program.module()
            except Exception as error:  # torch.export refuses in many ways
                raise CheckpointError(
                    f"torch.export cannot open {file} ({reason(error)}); export the network again."
                ) from error
            self._metadata[name] = extra[METADATA_KEY]

    def __call__(self, graph: str, inputs: Tensors) -> Tensors:
        """Run a graph; see `Graphs`."""
        module = self._modules[graph]
        wanted = {name: inputs[name].to(self.device) for name in input_names(module)}
        with torch.inference_mode():
            found: Tensors = module(**wanted)
        return found

    def metadata(self, graph: str) -> str | None:
        """What a graph's file says about itself."""
        return self._metadata[graph]


def input_names(module: torch.fx.GraphModule) -> list[str]:
    """The names of a program's inputs."""
    return [node.name for node in module.graph.nodes if node.op == "placeholder"]
