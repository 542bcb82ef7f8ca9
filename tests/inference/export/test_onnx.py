"""Exported files, run by onnxruntime and by `torch.export`."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.inference.differences import largest_difference
from uniphd.checkpoints.reading import load_model_and_config
from uniphd.errors import CheckpointError, ConfigError
from uniphd.inference.export.check import OutputError, check_export, prompts_for
from uniphd.inference.export.files import open_graphs
from uniphd.inference.export.graphs import trace_graphs
from uniphd.inference.export.layout import DECODER, GRAPHS, ExportFiles
from uniphd.inference.export.onnx_file import OnnxGraphs, onnx_bytes
from uniphd.inference.export.trace import plain_operators, trace
from uniphd.inference.predictor import Predictor
from uniphd.prompts import Prompt
from uniphd.synthetic.annotations import AnnotatedScene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(onnx_files: ExportFiles) -> Predictor:
    return Predictor(onnx_files.folder, device="cpu")


def test_onnxruntime_gives_the_networks_instances(
    exported: Predictor, predictor: Predictor, square: AnnotatedScene, prompts: list[Prompt]
) -> None:
    assert exported.schema == predictor.schema
    expected = predictor.predict(square.image, prompts=prompts, top_k=3)
    found = exported.predict(square.image, prompts=prompts, top_k=3)
    for one, other in zip(found, expected, strict=True):
        pairs = zip(one.candidates, other.candidates, strict=True)
        assert max(largest_difference(*pair) for pair in pairs) < 1e-5


def test_one_prompt_and_many_are_asked_of_an_encoded_image(
    exported: Predictor, predictor: Predictor, square: AnnotatedScene
) -> None:
    encoded, reference = exported.encode(square.image), predictor.encode(square.image)
    asked: list[dict[str, Any]] = [
        {"text": "person"},
        {"text": "the woman " * 30},
        {"point": (80, 90)},
        {"scribble": [(70.0 + i, 80.0 + i) for i in range(40)]},
        {"box": (60, 50, 100, 140)},
        {"mask": np.ones(square.image.shape[:2], bool)},
    ]
    for prompt in asked:
        found = encoded.predict(**prompt)
        assert largest_difference(found, reference.predict(**prompt)) < 1e-5


def test_any_file_of_the_export_opens_it(
    onnx_files: ExportFiles, predictor: Predictor, square: AnnotatedScene
) -> None:
    opened = Predictor(onnx_files.path(DECODER))
    assert opened.device == torch.device("cpu")
    found = opened.predict(square.image, point=(80, 90))
    assert largest_difference(found, predictor.predict(square.image, point=(80, 90))) < 1e-5


def test_threads_get_a_single_threads_answers(exported: Predictor, square: AnnotatedScene) -> None:
    texts = [f"the person in a {color} shirt" for color in ("red", "blue", "green", "white")] * 4
    expected = [exported.predict(square.image, text=text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: exported.predict(square.image, text=text), texts))
    assert max(map(largest_difference, found, expected)) == 0


def test_the_files_describe_themselves(onnx_files: ExportFiles) -> None:
    onnx = pytest.importorskip("onnx")
    for graph in GRAPHS:
        model = onnx.load(onnx_files.path(graph))
        onnx.checker.check_model(model)
        assert [(used.domain, used.version) for used in model.opset_import] == [("", 18)]
        (entry,) = (prop for prop in model.metadata_props if prop.key == "uniphd")
        content = json.loads(entry.value)
        assert content["outputs"] == [value.name for value in model.graph.output]
        assert (content["graph"], content["canvas"]) == (graph, [96, 96])
        assert content["keypoints"]["names"][0] == "nose"
        assert content["config"]["tokenizer"]["vocab_size"] == 4096
    free = {
        axis.dim_param
        for value in (*model.graph.input, *model.graph.output)
        for axis in value.type.tensor_type.shape.dim
        if axis.dim_param
    }
    assert free == {"prompts", "words", "points", "people"}


def test_every_output_of_a_photograph_is_the_networks(onnx_files: ExportFiles, photo: Path) -> None:
    image = Image.open(photo).convert("RGB")
    require_near(check_export(onnx_files, "synthetic_cpu", image), 1e-5)


def test_a_weight_that_changed_is_found(
    onnx_files: ExportFiles, tmp_path: Path, square: AnnotatedScene
) -> None:
    onnx = pytest.importorskip("onnx")
    shutil.copytree(onnx_files.folder, tmp_path, dirs_exist_ok=True)
    damaged = ExportFiles(tmp_path, "onnx")
    model = onnx.load(damaged.path(DECODER))
    weights = next(w for w in model.graph.initializer if "box_mlp.layers.2.bias" in w.name)
    values = onnx.numpy_helper.to_array(weights) + np.float32(0.1)
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    onnx.save(model, damaged.path(DECODER))
    image = Image.fromarray(square.image)
    wrong = [e.output for e in check_export(damaged, "synthetic_cpu", image) if not e.within]
    assert wrong == ["boxes"]


def test_sampling_by_gathers_gives_the_same(
    onnx_files: ExportFiles, tmp_path: Path, square: AnnotatedScene, prompts: list[Prompt]
) -> None:
    onnx = pytest.importorskip("onnx")
    network, _ = load_model_and_config("synthetic_cpu")
    graph = trace_graphs(network, (96, 96))[DECODER]
    original, metadata = open_graphs(onnx_files, "cpu")
    with plain_operators("gather"):
        text = metadata.to_json(network, DECODER, graph.outputs)
        content = onnx_bytes(trace(graph), graph, text)
    shutil.copytree(onnx_files.folder, tmp_path, dirs_exist_ok=True)
    gathers = ExportFiles(tmp_path, "onnx")
    gathers.path(DECODER).write_bytes(content)
    operators = [node.op_type for node in onnx.load(gathers.path(DECODER)).graph.node]
    assert "GridSample" not in operators
    image = Image.fromarray(square.image)
    require_near(check_export(gathers, "synthetic_cpu", image), 1e-5)
    assert isinstance(original, OnnxGraphs)


def test_torch_export_gives_the_networks_instances(
    pt2_files: ExportFiles, predictor: Predictor, square: AnnotatedScene, prompts: list[Prompt]
) -> None:
    program = torch.export.load(pt2_files.path(DECODER))
    names = {str(node.target) for node in program.graph.nodes}
    assert not any("uniphd" in name for name in names)
    opened = Predictor(pt2_files.folder, device="cpu")
    for asked in (prompts, prompts[:1], prompts[1:2]):
        expected = predictor.predict(square.image, prompts=asked)
        found = opened.predict(square.image, prompts=asked)
        assert max(map(largest_difference, found, expected)) < 1e-5
    image = Image.fromarray(square.image)
    require_near(check_export(pt2_files, "synthetic_cpu", image), 1e-5)


def test_an_export_of_another_network_is_refused(
    onnx_files: ExportFiles, tmp_path: Path, square: AnnotatedScene
) -> None:
    onnx = pytest.importorskip("onnx")
    shutil.copytree(onnx_files.folder, tmp_path, dirs_exist_ok=True)
    other = ExportFiles(tmp_path, "onnx")
    model = onnx.load(other.path(DECODER))
    (entry,) = (prop for prop in model.metadata_props if prop.key == "uniphd")
    entry.value = json.dumps({**json.loads(entry.value), "identity": "0"})
    onnx.save(model, other.path(DECODER))
    with pytest.raises(CheckpointError, match="are of different exports"):
        Predictor(tmp_path)
    del model.metadata_props[:]
    onnx.save(model, other.path(DECODER))
    with pytest.raises(CheckpointError, match="is not a file of uniphd-export"):
        Predictor(tmp_path)
    other.path(DECODER).write_bytes(b"no protocol buffer")
    with pytest.raises(CheckpointError, match="onnxruntime cannot open"):
        Predictor(tmp_path)


def test_other_devices_than_onnxruntime_has_are_refused(onnx_files: ExportFiles) -> None:
    runtime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in runtime.get_available_providers():
        pytest.skip("this onnxruntime computes on GPUs")
    for device in ("cuda", "cuda:1", "gpu", "mps"):
        with pytest.raises(ConfigError, match=r"cannot be used: this onnxruntime has .*CPU"):
            Predictor(onnx_files.folder, device=device)


def test_another_provider_than_asked_for_is_mentioned(
    onnx_files: ExportFiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(runtime, "get_available_providers", lambda: available)
    # What onnxruntime does where the libraries of CUDA are missing: it goes on with the CPU.
    monkeypatch.setattr(
        runtime, "InferenceSession", lambda file, options, _: session(file, options)
    )
    with pytest.raises(ConfigError, match="could not start CUDAExecutionProvider and computes"):
        Predictor(onnx_files.folder, device="cuda")
    assert Predictor(onnx_files.folder, device="auto").device == torch.device("cpu")
    assert "computes with CPUExecutionProvider" in caplog.text


def require_near(errors: list[OutputError], tolerance: float) -> None:
    """Every output of every graph, relative to its largest value."""
    assert {error.graph for error in errors} == set(GRAPHS)
    assert len(errors) == 17
    far = [error for error in errors if error.error > tolerance * max(1, error.largest)]
    assert not far


def test_the_check_asks_prompts_of_every_kind() -> None:
    kinds = {prompt.kind for prompt in prompts_for((90, 60))}
    assert kinds == {"text", "point", "scribble", "box", "mask"}
