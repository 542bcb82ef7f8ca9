"""One HTML file with everything in it: style, script, people and small copies of the images.

Captions and file names are anybody's text. They stand in JSON without a `<`, the script puts them
on the page as text, and the page's policy runs no other script than its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from uniphd.datatools.show.model import PageModel
from uniphd.training.fault_tolerance.files import replacing
from uniphd.visualization.canvas import MASK, PROMPT


def write_page(
    path: Path,
    model: PageModel,
    title: str,
    notes: list[str],
    image_folders: Mapping[str, Path],
    workers: int,
) -> int:
    """Write the page, image by image, so that it need not fit into memory.

    Args:
        path: of the page.
        model: its content.
        title: of the page.
        notes: sentences above the people.
        image_folders: by name of the annotation file. The page links to the images there, for its
            large view.
        workers: threads that shrink images.

    Returns:
        Bytes of the page.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    folder = path.absolute().parent
    links = {name: _link(folder, images) for name, images in image_folders.items()}
    colors = {"mask": _css(MASK), "prompt": _css(PROMPT)}
    index = {**model.index(), "title": title, "notes": notes, "links": links, "colors": colors}
    with replacing(path) as file:
        for part in _parts(title, index, model, workers):
            file.write(part.encode("utf-8", "replace"))
    return path.stat().st_size


def _parts(title: str, index: Any, model: PageModel, workers: int) -> Iterator[str]:
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data: file: 'self'; base-uri 'none'; form-action 'none'"
    )
    head, tail = _asset("page.html").split("<!-- data -->\n")
    values = {"TITLE": escape(title), "POLICY": escape(policy), "STYLE": style}
    for name, value in values.items():
        head = head.replace(f"{{{{{name}}}}}", value)
    yield head
    yield _data_block("index", index)
    yield f"<script>{script}</script>\n"  # before the images, so that it need not wait for them
    for number, block in enumerate(model.blocks(workers)):
        yield _data_block(f"image-{number}", block)
    yield tail


def _data_block(name: str, value: Any) -> str:
    """A value for the script. No `<` is left in it, so that nothing in it ends the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _link(folder: Path, images: Path) -> str | None:
    """The way from the page to the images, as a URL; None where there is none, as between disks."""
    try:
        relative = os.path.relpath(images.resolve(), folder.resolve())
    except ValueError:
        return None
    return "./" + quote(Path(relative).as_posix(), safe="/")


def _css(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
