"""Files whose entries stay in the file have the same value as `json` reads."""

from __future__ import annotations

import gzip
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from uniphd.datatools.packed_json import PackedEntry, read_packed, unpacked
from uniphd.errors import AnnotationError

_CONTENT: dict[str, Any] = {
    "info": {"year": 2026},
    "images": [{"id": 1, "file_name": "é.jpg", "caption": "a café", "captions": ["x"], "w": [1]}],
    "annotations": [{"id": 7, "iscrowd": None, "segmentation": [[1.5, 2.5]]}, 3, None, {}],
    "categories": [],
}


def _write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("indent", [None, 1])
def test_the_value_is_that_of_json(tmp_path: Path, escaped: bool, indent: int | None) -> None:
    text = json.dumps(_CONTENT, ensure_ascii=escaped, indent=indent)
    content = read_packed(_write(tmp_path / "a.json", text))
    entries = [*content["images"], *content["annotations"]]
    assert [isinstance(entry, PackedEntry) for entry in entries] == [True, True, False, False, True]
    assert [dict(entry) for entry in content["images"]] == _CONTENT["images"]
    assert unpacked(content) == _CONTENT
    unpacked(content)["annotations"][0]["id"] = 8
    assert content["annotations"][0]["id"] == 7


def test_fields_are_there_or_not_as_in_the_file(tmp_path: Path) -> None:
    content = read_packed(_write(tmp_path / "a.json", json.dumps(_CONTENT)))
    first, empty = content["annotations"][0], content["annotations"][3]
    assert "iscrowd" in first
    assert first["iscrowd"] is None
    assert "category_id" not in first
    assert first.get("category_id", 5) == 5
    assert "area" not in first
    assert first["segmentation"] == [[1.5, 2.5]]
    assert "id" not in empty
    assert len(empty) == 0
    assert pickle.loads(pickle.dumps(first)) == first


@pytest.mark.parametrize(
    "text",
    [
        '{"images": [{"id": 1}], "annotations": [{"id": 1}], "images": [{"id": 2}]}',
        '{"images": [], "annotations": [{"id": 1}]}',
        '{"images": {"id": 1}, "annotations": [{"id": 1}]}',
        '{"annotations": [{"id": 1}]}',
        "[1, 2]",
    ],
)
def test_other_files_are_read_as_a_whole(tmp_path: Path, text: str) -> None:
    assert read_packed(_write(tmp_path / "a.json", text)) == json.loads(text)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-be"])
def test_every_unicode_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    text = json.dumps(_CONTENT, ensure_ascii=False)
    assert unpacked(read_packed(_write(tmp_path / "a.json", text, encoding))) == _CONTENT


def test_gzipped_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(json.dumps(_CONTENT).encode()))
    assert unpacked(read_packed(path)) == _CONTENT


def test_long_fields_take_no_memory(tmp_path: Path) -> None:
    number = 2000
    people = [{"id": place, "segmentation": [[0.5] * 500]} for place in range(number)]
    path = _write(tmp_path / "a.json", json.dumps({"images": [{"id": 1}], "annotations": people}))
    tracemalloc.start()
    try:
        content = read_packed(path)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(content["annotations"]) == number
    assert used / number < 500


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.json", json.dumps(_CONTENT))
    first = read_packed(path)["annotations"][0]
    path.write_text("{}")
    with pytest.raises(AnnotationError, match="has changed"):
        first["segmentation"]
