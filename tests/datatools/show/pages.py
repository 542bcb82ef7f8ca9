"""Reading a page as a browser does, up to its scripts."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class Page(HTMLParser):
    """The elements of a page, and the values of its data blocks by their id."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.text = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.values: dict[str, Any] = {}
        self.title = ""
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if tag == "script" and self.lasttag == "script" and data.strip():
            if attributes.get("type") == "application/json":
                self.values[str(attributes["id"])] = json.loads(data)
            else:
                self.scripts.append(data)
        elif tag == "style" and data.strip():
            self.styles.append(data)
        elif tag == "title":
            self.title += data

    @property
    def index(self) -> Any:
        return self.values["index"]

    def block(self, person: dict[str, Any]) -> Any:
        """The image of a person of the index."""
        return self.values[f"image-{person['image']}"]

    def shapes(self, person: dict[str, Any]) -> Any:
        """What is drawn of a person of the index."""
        return self.block(person)["people"][str(self.index["people"].index(person))]
