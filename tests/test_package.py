"""The package as users get it: import, metadata, wheel."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import uniphd

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "lightning", "hydra", "timm", "transformers", "matplotlib")


def python(code: str, **environment: str) -> str:
    """Standard output of `code` in a fresh interpreter."""
    command = [sys.executable, "-c", code]
    env = {**os.environ, **environment}
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def test_import_loads_nothing_heavy() -> None:
    loaded = python("import sys, uniphd; print(*{name.split('.')[0] for name in sys.modules})")
    assert "uniphd" in loaded.split()
    assert not set(HEAVY) & set(loaded.split())


def test_public_names_are_imported_on_first_use() -> None:
    for name in set(uniphd.__all__) - {"COCO17", "__version__"}:
        assert getattr(uniphd, name).__name__ == name
    assert isinstance(uniphd.COCO17, uniphd.KeypointSchema)
    assert set(uniphd.__all__) <= set(dir(uniphd))


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        uniphd.nonsense  # noqa: B018


def test_version_is_the_installed_one() -> None:
    assert uniphd.__version__ == importlib.metadata.version("uniphd")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == uniphd.__version__


def test_console_scripts_resolve() -> None:
    scripts = importlib.metadata.distribution("uniphd").entry_points.select(group="console_scripts")
    assert {"uniphd-train", "uniphd-eval", "uniphd-convert", "uniphd-ops"} <= scripts.names
    assert [script.name for script in scripts if not callable(script.load())] == []


def test_every_import_is_a_declared_dependency() -> None:
    declared = {
        _normal(re.match(r"[\w.-]+", requirement)[0])
        for requirement in importlib.metadata.requires("uniphd")
        if not re.search(r"extra == .dev", requirement)
    }
    distributions = importlib.metadata.packages_distributions()
    undeclared = {
        module
        for module in _imported_modules()
        if not declared & {_normal(name) for name in distributions.get(module, ())}
    }
    assert undeclared == set()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported_modules() -> set[str]:
    """Top-level modules that src/ imports, other than Python's and our own."""
    modules: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                modules.add(node.module.split(".")[0])
    return modules - sys.stdlib_module_names - {"uniphd"}


def _build(kind: str, source: Path, target: Path) -> Path:
    """The sdist or wheel of the project at `source`, built without network."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "-d", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _files(folder: Path) -> Iterator[str]:
    """Relative names of the files under `folder`."""
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(folder).as_posix()


@pytest.mark.slow
def test_wheel_carries_package_configs_and_sources(wheel: Path) -> None:
    names = _names(wheel)
    for folder in ("configs", "csrc"):
        expected = {f"uniphd/{folder}/{name}" for name in _files(ROOT / folder)}
        assert expected
        assert expected == {name for name in names if name.startswith(f"uniphd/{folder}/")}
    assert {f"uniphd/{name}" for name in _files(ROOT / "src" / "uniphd")} <= names
    assert "uniphd/py.typed" in names
    assert {name.split("/")[0] for name in names} == {
        "uniphd",
        f"uniphd-{uniphd.__version__}.dist-info",
    }


@pytest.mark.slow
def test_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = _build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert _names(_build("wheel", source, tmp_path / "wheel")) == _names(wheel)


@pytest.mark.slow
def test_installed_wheel_finds_its_own_configs(wheel: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "--target", str(tmp_path), str(wheel)], check=True, capture_output=True)
    code = "from uniphd.config.compose import config_dir; print(config_dir())"
    found = Path(python(code, PYTHONPATH=str(tmp_path)).strip())
    assert found == tmp_path / "uniphd" / "configs"
    assert (found / "train.yaml").is_file()
