"""The entries come as `json.load` has them, wherever the window ends."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uniphd.datatools import json_stream
from uniphd.datatools.json_stream import open_json, read_span, stream_entries
from uniphd.errors import AnnotationError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
contents = st.fixed_dictionaries(
    {"info": values, "images": st.lists(values), "annotations": st.lists(values), "last": values}
)


def collected(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"images": [], "annotations": []}
    with open_json(path) as file:
        for name, value, start, length in stream_entries(path, ("images", "annotations")):
            if start < 0:
                found[name] = value
            else:
                found[name].append(value)
                assert json.loads(read_span(file, start, length)) == value
    return found


@pytest.mark.parametrize("zipped", [False, True])
@given(
    content=contents, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]),
    chunk=st.integers(1, 9), bom=st.booleans(),
)  # fmt: skip
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
def test_it_is_what_json_reads(
    zipped: bool, content: Any, ascii_only: bool, indent: int | None, chunk: int, bom: bool,
    tmp_path: Path,
) -> None:  # fmt: skip
    text = json.dumps(content, ensure_ascii=ascii_only, indent=indent)
    data = text.encode("utf-8-sig" if bom else "utf-8", "replace")
    content = json.loads(data.decode("utf-8-sig"))
    path = tmp_path / "file.json"
    path.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk + (200 if chunk > 8 else 3))
        assert collected(path) == content


BROKEN = {
    "cut off": (b'{"images": [{"id": 1}, {"i', "is not valid JSON at byte"),
    "no comma": (b'{"images": [{} {}]}', r"is not valid JSON at byte 15 \(expecting ',' or ']'"),
    "no object": (b"[1, 2]", "is no JSON object with lists"),
    "a list twice": (b'{"images": [], "images": [{}]}', "has 'images' twice"),
    "no list": (b'{"images": {}}', "has no list as 'images'"),
    "two values": (b'{"images": []} {}', r"byte 15 \(there is something behind its end"),
    "empty": (b"", "is empty; fetch it again"),
    "a web page": (b"<html>", "is a web page"),
    "UTF-16": ('{"images": []}'.encode("utf-16"), "is not in UTF-8"),
    "Latin-1": (b'{"images": ["caf\xe9"]}', "is not in UTF-8"),
    "damaged gzip": (gzip.compress(b'{"images": []}')[:-9], "is a damaged gzip file"),
    "deep": (b'{"images": [' + b"[" * 10**5 + b"]" * 10**5 + b"]}", "lists in lists"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    data, says = BROKEN[name]
    path = tmp_path / "file.json"
    path.write_bytes(data)
    with pytest.raises(AnnotationError, match=says) as caught:
        list(stream_entries(path, ("images",)))
    assert str(caught.value).isprintable()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="does not exist"):
        list(stream_entries(tmp_path / "none.json", ()))
    with pytest.raises(AnnotationError, match="is a folder"):
        list(stream_entries(tmp_path, ()))
