"""What is refused before anything is computed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from uniphd.errors import CheckpointError, ConfigError
from uniphd.inference.export.layout import ExportFiles, find_export
from uniphd.inference.export.metadata import parse_metadata
from uniphd.inference.export.write import export
from uniphd.inference.predictor import Predictor


def test_folders_and_files_of_exports_are_found(tmp_path: Path) -> None:
    assert find_export("synthetic_cpu") is None
    assert find_export(tmp_path) is None
    (tmp_path / "decoder.onnx").touch()
    expected = ExportFiles(tmp_path, "onnx")
    assert find_export(tmp_path) == expected
    assert find_export(str(tmp_path / "decoder.onnx")) == expected
    (tmp_path / "decoder.pt2").touch()
    assert find_export(tmp_path / "image_encoder.pt2") == ExportFiles(tmp_path, "pt2")
    with pytest.raises(ConfigError, match="has exports of two formats; give"):
        find_export(tmp_path)


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "decoder.onnx").touch()
    with pytest.raises(CheckpointError, match=r"image_encoder\.onnx is missing; an export has"):
        Predictor(tmp_path)
    with pytest.raises(ConfigError, match="leave precision and compile out"):
        Predictor(tmp_path, precision="bf16")
    with pytest.raises(ConfigError, match="leave precision and compile out"):
        Predictor(tmp_path, compile=True)


@pytest.mark.parametrize("canvas", [(96, 100), (0, 96), (16, 96)])
def test_a_canvas_is_of_multiples_of_32(canvas: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give multiples of 32"):
        export("synthetic_cpu", tmp_path, canvas=canvas)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_packages_that_are_missing_are_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = importlib.import_module

    def missing(name: str, *rest: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=rf"package {package}; pip install 'uniphd\[export\]'"):
        export("synthetic_cpu", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[1]",
        "{",
        {"format": "uniphd-export-0"},
        {"canvas": [96]},
        {"canvas": [96, 1.5]},
        {"canvas": [96, 10**9]},
        {"queries": 0},
        {"config": {"model": {"_target_": "os.system"}, "tokenizer": {"_target_": "os.system"}}},
    ],
)
def test_metadata_of_strangers_is_checked(content: Any) -> None:
    sound: dict[str, Any] = {
        "format": "uniphd-export-1",
        "canvas": [96, 64],
        "queries": 4,
        "sampling": "gather",
        "identity": "1",
        "config": {
            "model": {"_target_": "uniphd.models.uniphd.UniPHD"},
            "tokenizer": {"_target_": "uniphd.models.tokenizer.HashTokenizer"},
        },
    }
    assert parse_metadata(json.dumps(sound), Path("a file")).canvas == (96, 64)
    text = json.dumps({**sound, **content}) if isinstance(content, dict) else content
    with pytest.raises(CheckpointError, match="a file is not a file of uniphd-export"):
        parse_metadata(text, Path("a file"))
