"""The entries of a JSON file's lists, one after the other, without the whole file in memory.

COCO's annotation files are an object with a few long lists. Reading that of train2017 (240 MB) at
once takes 2 GB.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterator
from json import JSONDecodeError, detect_encoding
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from uniphd.data.json_file import require_json
from uniphd.errors import AnnotationError

_CHUNK = 1 << 20  # bytes
_LARGEST = 1 << 26  # bytes of one entry
_SPACE = " \t\r\n"
_OF_A_NUMBER = "0123456789+-.eE"  # signs behind a number that is cut off; "" is in it, too
_GZIP = b"\x1f\x8b"


class Entry(NamedTuple):
    """A value of the file.

    Attributes:
        name: of the list that it is in, or its own name at the top of the file.
        value: the value.
        start: its first byte in the file, after decompression; -1 for what is in no list.
        length: its number of bytes.
    """

    name: str
    value: Any
    start: int
    length: int


def open_json(path: Path) -> BinaryIO:
    """Open a JSON file, plain or gzipped, for its bytes.

    Raises:
        AnnotationError: it is missing or is something else.
    """
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise AnnotationError(f"{path} does not exist; give an annotation file.") from None
    except IsADirectoryError:
        raise AnnotationError(f"{path} is a folder; give an annotation file.") from None
    if file.read(2) == _GZIP:
        file.close()
        return cast(BinaryIO, gzip.open(path))
    file.seek(0)
    return file


def stream_entries(path: Path, lists: Collection[str]) -> Iterator[Entry]:
    """The entries of the lists of these names, and the other values at the top of the file.

    Args:
        path: a JSON object in UTF-8, plain or gzipped.
        lists: names of lists whose entries come one by one.

    Raises:
        AnnotationError: the file is missing, damaged, no JSON object, or one of the names is no
            list, or stands twice.
    """
    with open_json(path) as file:
        try:
            yield from _Reader(file).entries(lists)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise AnnotationError(
                f"{path} is a damaged gzip file ({error}); fetch it again."
            ) from None
        except UnicodeDecodeError as error:
            raise AnnotationError(f"{path} is not in UTF-8 ({error.reason}); save it so.") from None
        except (ValueError, RecursionError) as error:
            raise AnnotationError(f"{path} {_without_newline(error)}.") from error


def read_span(file: BinaryIO, entry_start: int, length: int) -> bytes:
    """The bytes of an entry; entries are read in the order of the file."""
    file.seek(entry_start)
    return file.read(length)


class _Reader:
    """A window of the file that is decoded as Latin-1, in which bytes and characters are one.

    JSON's signs are ASCII, so the structure is found all the same; entries with other characters
    are decoded anew.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.text = ""
        self.start = 0  # byte of the window's first character
        self.place = 0  # in the window
        self.decode = json.JSONDecoder().raw_decode
        self.at_end = False
        self._fill(_CHUNK)
        start = self.text.encode("latin-1")
        require_json(start[:200])
        if detect_encoding(start[:4]) not in ("utf-8", "utf-8-sig"):
            raise ValueError("is not in UTF-8; save it so")
        self.place = 3 if start.startswith(b"\xef\xbb\xbf") else 0

    def entries(self, lists: Collection[str]) -> Iterator[Entry]:
        if self._sign() != "{":
            raise ValueError("is no JSON object with lists, as COCO's files are")
        more = self._sign(peek=True) != "}"
        read: set[str] = set()
        while more:
            name = self._value().value
            self._expect(":")
            if name in read:
                raise ValueError(f"has '{name}' twice; keep one")
            if name in lists and self._sign(peek=True) == "[":
                read.add(name)
                yield from (entry._replace(name=name) for entry in self._list())
            elif name in lists:
                raise ValueError(f"has no list as '{name}'; give an annotation file")
            else:
                yield Entry(name, self._value().value, -1, 0)
            more = self._comma("}")
        if self._sign(peek=True, or_end=True):
            raise self._broken("there is something behind its end")

    def _list(self) -> Iterator[Entry]:
        self._expect("[")
        more = self._sign(peek=True) != "]"
        if not more:
            self._expect("]")
        while more:
            yield self._value()
            more = self._comma("]")

    def _value(self) -> Entry:
        self._sign(peek=True)
        chunk = _CHUNK
        while True:
            try:
                value, end = self.decode(self.text, self.place)
            except JSONDecodeError as error:
                if self.at_end or len(self.text) - self.place > _LARGEST:
                    self.place = error.pos
                    raise self._broken(error.msg) from error
            else:
                if self.at_end or self.text[end : end + 1] not in _OF_A_NUMBER:
                    break
            self._fill(chunk)
            chunk *= 2
        start, length = self.start + self.place, end - self.place
        written = self.text[self.place : end]
        if not written.isascii():
            value = json.loads(written.encode("latin-1").decode("utf-8"))
        self.place = end
        return Entry("", value, start, length)

    def _comma(self, closing: str) -> bool:
        """Whether another value follows, or else the list or object ends."""
        sign = self._sign()
        if sign not in (",", closing):
            self.place -= 1
            raise self._broken(f"expecting ',' or '{closing}'")
        return sign == ","

    def _expect(self, sign: str) -> None:
        if self._sign() != sign:
            self.place -= 1
            raise self._broken(f"expecting '{sign}'")

    def _sign(self, peek: bool = False, or_end: bool = False) -> str:
        """The next sign that is no space; empty at the end, where that is allowed."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in _SPACE:
                self.place += 1
            if self.place < len(self.text):
                break
            if self.at_end:
                if or_end:
                    return ""
                raise self._broken("it is cut off")
            self._fill(_CHUNK)
        sign = self.text[self.place]
        self.place += not peek
        return sign

    def _fill(self, size: int) -> None:
        """Read on, and forget what is behind."""
        data = self.file.read(size)
        self.at_end = not data
        self.text = self.text[self.place :] + data.decode("latin-1")
        self.start += self.place
        self.place = 0

    def _broken(self, message: str) -> ValueError:
        place = self.start + self.place
        return ValueError(f"is not valid JSON at byte {place} ({message}); fetch it again")


def _without_newline(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "has lists in lists without end; fetch it again"
    return str(error)
