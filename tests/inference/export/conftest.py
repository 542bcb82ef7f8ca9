from __future__ import annotations

from pathlib import Path

import pytest

from uniphd.data.sample import annotated_person
from uniphd.inference.export.layout import ExportFiles
from uniphd.inference.export.write import export
from uniphd.prompts import KINDS, Prompt, ScribblePrompt, TextPrompt
from uniphd.synthetic.annotations import AnnotatedScene, render_annotated
from uniphd.synthetic.scene import SceneConfig


@pytest.fixture(scope="session")
def square() -> AnnotatedScene:
    """An image that fills the canvas, so that nothing is padded in either way of computing."""
    return render_annotated(SceneConfig(seed=3, size=(160, 160)), "val", 1)


@pytest.fixture(scope="session")
def prompts(square: AnnotatedScene) -> list[Prompt]:
    """Every kind for every person, and further texts and strokes of other lengths."""
    people = [annotated_person(annotation) for annotation in square.annotations]
    fixed = [KINDS[kind].fixed(person) for person in people for kind in KINDS]
    long = TextPrompt("the tall one in a red shirt who stands beside the person in blue trousers")
    return [*fixed, long, ScribblePrompt(fixed[2].points[:3])]


@pytest.fixture(scope="session")
def onnx_files(tmp_path_factory: pytest.TempPathFactory) -> ExportFiles:
    """The packaged network as ONNX; it takes a minute."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    return export("synthetic_cpu", tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="session")
def pt2_files(tmp_path_factory: pytest.TempPathFactory) -> ExportFiles:
    return export("synthetic_cpu", tmp_path_factory.mktemp("pt2"), "pt2")


@pytest.fixture
def photo(refhuman_mini: Path) -> Path:
    return sorted((refhuman_mini / "images").glob("*.jpg"))[0]
