"""Compiles and calls the yardstick per_channel_kernel.cu."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import torch
from torch import Tensor

from uniphd.ops.toolchain import arch_flags, cuda_archs, find_cuda


class PerChannelKernel:
    """The operator in the way of Deformable DETR's own kernel; float32, on the current device.

    Args:
        folder: where the library is compiled to.
    """

    def __init__(self, folder: Path) -> None:
        toolkit = find_cuda()
        target = folder / "per_channel_kernel.so"
        source = Path(__file__).with_name("per_channel_kernel.cu")
        include = [f"-I{path}" for path in toolkit.include]
        command = [toolkit.home / "bin" / "nvcc", "-O3", "-shared", "-Xcompiler", "-fPIC"]
        subprocess.run(
            [*command, *arch_flags(cuda_archs()), *include, source, "-o", target], check=True
        )
        self._library = ctypes.CDLL(str(target))

    def forward(self, value: Tensor, *others: Tensor) -> Tensor:
        """Takes the arguments of ``uniphd::ms_deform_attn``."""
        locations = others[2]
        batch, _, heads, channels = value.shape
        output = value.new_empty(batch, locations.shape[1], heads * channels)
        self._call(self._library.per_channel_forward, value, others, (value, *others, output))
        return output

    def backward(
        self, grad_output: Tensor, value: Tensor, *others: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Takes the arguments of ``uniphd::ms_deform_attn_backward``."""
        gradients = (
            torch.zeros_like(value),
            torch.empty_like(others[2]),
            torch.empty_like(others[3]),
        )
        tensors = (grad_output, value, *others, *gradients)
        self._call(self._library.per_channel_backward, value, others, tensors)
        return gradients

    def _call(
        self,
        function: ctypes._NamedFuncPointer,
        value: Tensor,
        others: tuple[Tensor, ...],
        tensors: tuple[Tensor, ...],
    ) -> None:
        queries, _, levels, points = others[2].shape[1:5]
        sizes = (ctypes.c_int64 * 7)(*value.shape, queries, levels, points)
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        status = function(
            sizes, *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors), stream
        )
        if status != 0:
            raise RuntimeError(f"CUDA error {status}")
