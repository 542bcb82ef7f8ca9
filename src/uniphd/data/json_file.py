"""A JSON file, plain or gzipped, in any Unicode encoding, or the sentence that says what it is."""

from __future__ import annotations

import gzip
import json
import zlib
from difflib import get_close_matches
from json import JSONDecodeError, detect_encoding
from pathlib import Path
from typing import Any

from uniphd.errors import AnnotationError

_GZIP = b"\x1f\x8b"

_NO_JSON = {
    b"PK\x03\x04": "is a zip archive; unpack it",
    b"BZh": "is compressed with bzip2; unpack it",
    b"\xfd7zXZ": "is compressed with xz; unpack it",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; unpack it",
    b"version https://git-lfs": "is a pointer of Git LFS; fetch the file with git lfs pull",
    b"<": "is a web page or XML; fetch the file itself",
    b"\x80": "is pickled; save it as JSON",
    b"PAR1": "is a Parquet file; save it as JSON",
}
"""How other files begin, and what to do with them."""


class NotUnicodeError(AnnotationError):
    """A JSON file is in an encoding of one byte per letter.

    Attributes:
        content: of the file.
    """

    def __init__(self, message: str, content: bytes) -> None:
        super().__init__(message)
        self.content = content


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        AnnotationError: the file is missing, cannot be read, or is something else.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise AnnotationError(f"{path} does not exist; {_where_to_look(path)}.") from None
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read ({error.strerror}); check it.") from error
    try:
        return _parse(gzip.decompress(data) if data.startswith(_GZIP) else data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise AnnotationError(f"{path} is a damaged gzip file ({error}); fetch it again.") from None
    except UnicodeDecodeError as error:
        raise NotUnicodeError(
            f"{path} is not in UTF-8 (byte {error.object[error.start]:#x} at {error.start}); save "
            "it so, such as with iconv -f latin1 -t utf-8.",
            error.object,
        ) from None
    except ValueError as error:
        raise AnnotationError(f"{path} {error}.") from error


def _parse(data: bytes) -> Any:
    """The value of JSON's bytes.

    Raises:
        ValueError: it is none; the message is the rest of a sentence.
    """
    require_json(data[:200])
    text = data.decode(detect_encoding(data))
    try:
        return json.loads(text)
    except JSONDecodeError as error:
        raise ValueError(_explanation(error)) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, deep lists
        raise ValueError(f"is not valid JSON ({error}); fetch it again") from error


def require_json(start: bytes) -> None:
    """Refuse what is known to be something else by its first 200 bytes.

    Raises:
        ValueError: the message is the rest of a sentence.
    """
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        raise ValueError("is empty; fetch it again")
    for beginning, message in _NO_JSON.items():
        if start.startswith(beginning):
            raise ValueError(message)


def _explanation(error: JSONDecodeError) -> str:
    """What is wrong with a text that is no JSON."""
    place = f"line {error.lineno}, column {error.colno}"
    if error.msg == "Extra data":
        return (
            f"has a second JSON value at {place}, as JSON Lines have; put all into one object with "
            "the lists 'images' and 'annotations'"
        )
    if error.msg.startswith("Unterminated string") or error.pos >= len(error.doc.rstrip()):
        return f"is cut off after {len(error.doc)} characters, at {place}; fetch it again"
    return f"is not valid JSON ({error.msg}: {place}); correct it or fetch it again"


def _where_to_look(path: Path) -> str:
    """What there is instead of a file."""
    folder = path.parent
    if folder.is_file():
        return f"{folder} is a file; unpack it if it is an archive, and give the folder"
    if not folder.is_dir():
        return f"point data.root to the folder that holds it ({folder} is none)"
    names = sorted(other.name for other in folder.iterdir() if ".json" in other.name)
    near = get_close_matches(path.name, names, 3) or names[:3]
    if not near:
        return f"point data.root to the folder that holds it ({folder} has no JSON)"
    return f"point data.root to the folder that holds it ({folder} has {', '.join(near)})"
