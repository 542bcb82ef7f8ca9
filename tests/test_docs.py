"""What the documentation names exists: commands compose, files and Python names are there."""

from __future__ import annotations

import importlib
import re
import shlex
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.composition import compose_eval, compose_train

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "BENCHMARKS.md", *sorted((ROOT / "docs").glob("*.md"))]
KEY = object()
FOLDERS = (
    "benchmarks",
    "configs",
    "csrc",
    "docs",
    "examples",
    "notebooks",
    "parity",
    "src",
    "tests",
)


def read(page: Path) -> str:
    """Its text; "…" stands for a part of a path."""
    return page.read_text(encoding="utf-8").replace("…/", "some/")


def commands(program: str) -> list[str]:
    """Arguments of a program in the code blocks of all pages."""
    found = set()
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", read(page), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found |= {line.split(program)[1].split("#")[0] for line in lines if program in line}
    return sorted(found)


def overrides(arguments: str) -> list[list[str]]:
    """Every combination of a sweep's values, without Hydra's own keys."""
    words = [word for word in shlex.split(arguments) if "hydra." not in word and "=" in word]
    keys = [word.partition("=")[::2] for word in words]
    values = [
        value.split(",") if "-m " in arguments and not value.startswith("[") else [value]
        for _, value in keys
    ]
    return [
        [f"{key}={value}" for (key, _), value in zip(keys, chosen, strict=True)]
        for chosen in product(*values)
    ]


@pytest.mark.parametrize("arguments", commands("uniphd-train"))
def test_training_commands_compose(arguments: str) -> None:
    for words in overrides(arguments):
        compose_train(None, *words)


@pytest.mark.parametrize("arguments", commands("uniphd-eval"))
def test_evaluation_commands_compose(arguments: str) -> None:
    for words in overrides(arguments):
        compose_eval(None, *words)


def test_choices_in_the_readme_compose() -> None:
    table = read(ROOT / "README.md").split("| to … | add |")[1]
    rows = [line.split(" | ")[1] for line in table.split("\n\n")[0].splitlines()[2:]]
    checked = 0
    for words in (code.split() for row in rows for code in re.findall("`([a-z_.]+=[^`]+)`", row)):
        compose_train(None, "experiment=tiny_refhuman", *words)
        checked += 1
    assert checked > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", read(page)):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_named_files_exist(page: Path) -> None:
    for name in code_names(page):
        if re.match(rf"({'|'.join(FOLDERS)})/[\w./]*$", name):
            assert (ROOT / name).exists(), name


def test_names_of_the_architecture_exist() -> None:
    """Rooms, modules and classes relative to the package; the rest are keys of a training."""
    page = ROOT / "docs" / "architecture.md"
    rooms = {path.stem for path in (ROOT / "src" / "uniphd").iterdir()}
    config = compose_train(None, "model=uniphd_plus", "loss=plus", "data.root=unused")
    checked = 0
    for name in code_names(page):
        parts = name.removeprefix("uniphd.").split(".")
        if re.fullmatch(r"\w+(\.\w+)*\.(?!json|ckpt)\w+", name) and parts[0] in rooms | {
            *config,
            "load_model",
        }:
            checked += 1
            assert exists(parts) or OmegaConf.select(config, name, default=KEY) is not KEY, name
    assert checked > 50


def code_names(page: Path) -> list[str]:
    """What stands in backticks, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", read(page), flags=re.DOTALL))


def exists(parts: list[str]) -> bool:
    """Whether a dotted name in the package is a module, a class, or something of a class."""
    found: Any = importlib.import_module("uniphd")
    for length, part in enumerate(parts, 1):
        try:
            found = importlib.import_module(".".join(["uniphd", *parts[:length]]))
        except ModuleNotFoundError:
            fields = getattr(found, "__dataclass_fields__", {})
            if not hasattr(found, part) and part not in fields:
                return False
            found = getattr(found, part, None)
    return True
