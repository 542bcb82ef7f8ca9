"""Graphs as ONNX, and onnxruntime to run them."""

from __future__ import annotations

import importlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from uniphd.errors import CheckpointError, ConfigError
from uniphd.inference.export.graphs import Graph, Tensors
from uniphd.inference.export.metadata import METADATA_KEY
from uniphd.refusals import reason

OPSET = 18
"""onnxruntime's CUDA provider has GridSample of opset 16 to 19."""

_logger = logging.getLogger(__name__)
_LARGEST = 2**31 - 1  # bytes of a protocol buffer
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def onnx_bytes(program: ExportedProgram, graph: Graph, metadata: str) -> bytes:
    """An ONNX file with a graph.

    Raises:
        ConfigError: the graph is larger than ONNX allows.
    """
    with _quiet():
        exported = torch.onnx.export(
            program,
            input_names=list(graph.example),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    exported.model.metadata_props[METADATA_KEY] = metadata
    model = exported.model_proto
    _name_free_axes(model, graph)
    if model.ByteSize() > _LARGEST:
        raise ConfigError(
            f"A graph has {model.ByteSize() >> 20} MiB, and an ONNX file at most "
            f"{_LARGEST >> 20}; use --format pt2."
        )
    content: bytes = model.SerializeToString()
    return content


def _name_free_axes(model: Any, graph: Graph) -> None:
    """Give free axes their names, in place of the symbols that the tracer called them."""
    names = {}
    for value in model.graph.input:
        for axis, name in graph.free.get(value.name, {}).items():
            names[value.type.tensor_type.shape.dim[axis].dim_param] = name
    symbol = re.compile(rf"\b({'|'.join(names) or '(?!)'})\b")
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.HasField("dim_param"):
                axis.dim_param = symbol.sub(lambda match: names[match[0]], axis.dim_param)


class OnnxGraphs:
    """The graphs of an export in onnxruntime.

    Args:
        files: by the graph's name.
        device: "auto" is the first GPU that onnxruntime can use, or the CPU.

    Attributes:
        device: on which they run.

    Raises:
        CheckpointError: a file is no ONNX.
        ConfigError: onnxruntime is not installed, or cannot use the device.
    """

    def __init__(self, files: Mapping[str, Path], device: torch.device | str) -> None:
        self._runtime = optional("onnxruntime")
        provider, options = self._choose(device)
        self.device = torch.device("cpu" if provider == _CPU else f"cuda:{options['device_id']}")
        settings = self._runtime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.log_severity_level = 3
        self._sessions: dict[str, Any] = {}
        for name, file in files.items():
            try:
                session = self._runtime.InferenceSession(file, settings, [(provider, options)])
            except Exception as error:  # onnxruntime has a class for every case
                raise CheckpointError(
                    f"onnxruntime cannot open {file} ({reason(error)}); export the network again."
                ) from error
            self._require(provider, session, str(device))
            self._sessions[name] = session

    def __call__(self, graph: str, inputs: Tensors) -> Tensors:
        """Run a graph; see `Graphs`."""
        session = self._sessions[graph]
        wanted = {value.name: inputs[value.name].numpy() for value in session.get_inputs()}
        names = [value.name for value in session.get_outputs()]
        values = session.run(names, wanted)
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}

    def metadata(self, graph: str) -> str | None:
        """What a graph's file says about itself."""
        found: str | None = (
            self._sessions[graph].get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        )
        return found

    def _choose(self, device: torch.device | str) -> tuple[str, dict[str, Any]]:
        """The provider for a device, and its options."""
        available = self._runtime.get_available_providers()
        if device == "auto":
            return (_CUDA, {"device_id": 0}) if _CUDA in available else (_CPU, {})
        try:
            wanted = torch.device(device)
        except (RuntimeError, TypeError):
            wanted = torch.device("meta")
        provider = {"cpu": _CPU, "cuda": _CUDA}.get(wanted.type)
        if provider is None or provider not in available:
            raise ConfigError(
                f"The device {str(device)!r:.80} cannot be used: this onnxruntime has "
                f"{', '.join(available)}; give auto or cpu, or install onnxruntime-gpu."
            )
        return provider, {} if provider == _CPU else {"device_id": wanted.index or 0}

    def _require(self, provider: str, session: Any, device: str) -> None:
        """Refuse or mention that onnxruntime has silently taken another provider."""
        used = session.get_providers()[0]
        if used == provider:
            return
        sentence = f"onnxruntime could not start {provider} and computes with {used}"
        if device != "auto":
            raise ConfigError(f"{sentence}; give device='cpu', or mend its CUDA libraries.")
        _logger.warning("%s.", sentence)
        self.device = torch.device("cpu")


def optional(package: str) -> Any:
    """A package that not everybody has.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"ONNX needs the package {package}; pip install 'uniphd[export]'."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch and onnxscript say about their own insides."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
