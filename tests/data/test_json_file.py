"""JSON in the forms in which people have it, and a sentence for everything else."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from uniphd.data.json_file import read_json
from uniphd.errors import AnnotationError

CONTENT = {"images": [{"caption": "die Frau im grünen Mantel"}], "annotations": []}
TEXT = json.dumps(CONTENT, ensure_ascii=False)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_unicode_is_read_plain_and_gzipped(
    encoding: str, pack: type[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(pack(TEXT.encode(encoding)))
    assert read_json(path) == CONTENT


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (TEXT.encode("latin-1"), "not in UTF-8 (byte 0xfc at 39); save it so, such as with iconv"),
        (TEXT.encode()[:30], "is cut off after 30 characters, at line 1, column"),
        (b'{"images": [1, 2', "is cut off after 16 characters"),
        (b'{"images": [1, 2],\n', "is cut off after 19 characters"),
        (b'{"id": 1}\n{"id": 2}\n', "has a second JSON value at line 2, column 1, as JSON Lines"),
        (b'{"id": 1,\n "a" 2}', "is not valid JSON (Expecting ':' delimiter: line 2, column 6)"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf  \n", "is empty"),
        (b"PK\x03\x04...", "is a zip archive; unpack it"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x80\x04\x95", "is pickled; save it as JSON"),
        (gzip.compress(TEXT.encode(), mtime=0)[:40], "is a damaged gzip file"),
        (b"\x1f\x8bno gzip", "is a damaged gzip file"),
        (gzip.compress(b"[1, 2", mtime=0), "is cut off"),
        (b"[" * 100_000, "is not valid JSON (maximum recursion depth"),
    ],
)
def test_what_is_no_json_is_called_by_its_name(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(data)
    with pytest.raises(AnnotationError, match=rf"file\.json .*{re.escape(says)}.*\.$"):
        read_json(path)


def test_a_missing_file_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "file.json.gz").touch()
    (tmp_path / "data.zip").touch()
    for name, says in [
        ("file.json", "has file.json.gz)"),
        ("none/file.json", "none is none)"),
        ("data.zip/file.json", "data.zip is a file; unpack it"),
    ]:
        with pytest.raises(AnnotationError, match=f"does not exist; .*{re.escape(says)}"):
            read_json(tmp_path / name)
