"""From a network to traced programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.export import Dim, ExportedProgram
from torch.nn.attention import SDPBackend, sdpa_kernel

from uniphd.inference.export.graphs import Graph
from uniphd.ops.sampling import Sampling, exporting

_MOST = 4_096  # of any free axis: prompts, words of a text, points of a stroke


@contextmanager
def plain_operators(sampling: Sampling) -> Iterator[None]:
    """Trace no operator that only PyTorch has, and sample maps like this."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # The layout of a fused attention's result is not that of the operators it is replaced by.
        with exporting(sampling), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def trace(graph: Graph) -> ExportedProgram:
    """Trace a graph; call it inside of `plain_operators`."""
    axes: dict[str, Dim] = {}
    shapes = {
        name: {
            axis: axes.setdefault(free, Dim(free, min=1, max=_MOST))
            for axis, free in graph.free.get(name, {}).items()
        }
        for name in graph.example
    }
    return torch.export.export(
        graph.module, (), dict(graph.example), dynamic_shapes=shapes, strict=False
    )
