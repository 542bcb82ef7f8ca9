"""Lightning's private attributes are used in one file, which names the versions it is for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import lightning

import uniphd

SOURCE = Path(uniphd.__file__).parent
ALLOWED = SOURCE / "training" / "lightning_internals.py"


def private_names_of_lightning() -> set[str]:
    root = Path(lightning.__file__).parent
    files = [path for part in ("pytorch", "fabric") for path in (root / part).rglob("*.py")]
    texts = [path.read_text() for path in files]
    return {name for text in texts for name in re.findall(r"(?:self\.|def )(_[a-z]\w*)", text)}


def private_uses(text: str) -> set[str]:
    """Private attributes that the file takes from objects of others, or inherits."""
    nodes = list(ast.walk(ast.parse(text)))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    own |= {
        node.attr
        for node in attributes
        if isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    names = {node.attr for node in attributes if node.attr.startswith("_")}
    return {name for name in names - own if not name.startswith("__")}


def test_the_scan_finds_them() -> None:
    uses = "trainer._accelerator_connector.x\nself._kwargs['a'] = 1\nself._mine = 2\nself._mine"
    assert private_uses(uses) == {"_accelerator_connector", "_kwargs"}
    assert {"_accelerator_connector", "_batches_that_stepped"} <= private_names_of_lightning()


def test_private_attributes_are_used_in_one_file() -> None:
    theirs = private_names_of_lightning()
    uses = {
        (str(path.relative_to(SOURCE)), name)
        for path in SOURCE.rglob("*.py")
        for name in private_uses(path.read_text()) & theirs
    }
    allowed = {(file, name) for file, name in uses if SOURCE / file == ALLOWED}
    assert {name for _, name in allowed} == {
        *("_accelerator_connector", "_average_model", "_batches_that_stepped", "_kwargs"),
        *("_combined_loader_states_to_load", "_data_fetcher", "_load_combined_loader_states"),
    }
    assert uses - allowed == set()


def test_the_version_is_bounded() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert re.search(r'"lightning>=2\.6,<2\.7,', project)
