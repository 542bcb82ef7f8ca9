"""Referring expressions of RefCOCO, RefCOCO+ and RefCOCOg, by the annotation of COCO they mean.

They come as the original pickles (`refs(unc).p`, `refs(umd).p`, `refs(google).p`), or as the JSON,
JSON Lines or Parquet of mirrors that keep their fields: `ann_id`, `image_id`, `split`, `sentences`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uniphd.data.validation import is_id, shown
from uniphd.datatools.from_coco.plain_pickle import read_plain_pickle
from uniphd.errors import AnnotationError, ConfigError

TRAIN, EVALUATION = "train", ("val", "testA", "testB", "test")
_SPLITS = {
    **{name.casefold(): name for name in (TRAIN, *EVALUATION)},
    **{"validation": "val", "training": TRAIN},
}
_MOST_SENTENCES = 1000  # of one record; RefCOCO has at most 20
_MOST_RECORDS = 1_000_000  # RefCOCO has 50,000; a pickle can repeat one for two bytes each
_COLUMNS = ("ann_id", "annotation_id", "image_id", "ref_id", "split", "sentences", "captions")


@dataclass(frozen=True, slots=True)
class Expression:
    """What one record says.

    Attributes:
        annotation_id: of COCO, whom or what it means.
        image_id: of COCO.
        split: "train", "val", "testA", "testB" or "test" (that of RefCOCOg).
        sentences: each of which means it.
    """

    annotation_id: int
    image_id: int
    split: str
    sentences: tuple[str, ...]


def read_refer(path: Path) -> tuple[Expression, ...]:
    """The records of a file of expressions.

    `test` is testA where the file has testB, too, as some mirrors write it.

    Raises:
        AnnotationError: the file is missing, is none of these, or a record lacks a field or has an
            unknown split.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
        records = _read(path, start)
    except FileNotFoundError:
        raise AnnotationError(f"{path} does not exist; give a file of expressions.") from None
    if len(records) > _MOST_RECORDS:
        raise AnnotationError(f"{path} has more than {_MOST_RECORDS:,} records; give another file.")
    expressions = tuple(_expression(record, place, path) for place, record in enumerate(records))
    if not expressions:
        raise AnnotationError(f"{path} has no expressions; give another file.")
    if any(expression.split == "testB" for expression in expressions):
        return tuple(
            replace(expression, split="testA") if expression.split == "test" else expression
            for expression in expressions
        )
    return expressions


def parse_splits(text: str) -> tuple[str, ...]:
    """The splits of "val,testA".

    Raises:
        ConfigError: one is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name.casefold() not in _SPLITS]
    if unknown or not names:
        known = ", ".join((TRAIN, *EVALUATION))
        raise ConfigError(f"{shown(text)} is no list of splits; choose from {known}.")
    return tuple(dict.fromkeys(_SPLITS[name.casefold()] for name in names))


def _read(path: Path, start: bytes) -> Sequence[Any]:
    if start.startswith(b"PAR1"):
        return _read_parquet(path)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return _read_json(path)
    records = read_plain_pickle(path)
    if not isinstance(records, list):
        raise AnnotationError(
            f"{path} holds {shown(records)}, no list of expressions; give refs(unc).p or the like."
        )
    return records


def _read_parquet(path: Path) -> Sequence[Any]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            f"{path} is a Parquet file, which needs pyarrow: pip install 'uniphd[parquet]'."
        ) from None
    try:
        names = parquet.read_schema(path).names
        table = parquet.read_table(path, columns=[name for name in _COLUMNS if name in names])
        records: list[Any] = table.to_pylist()
    except Exception as error:  # pyarrow's own, of which some are OSErrors
        raise AnnotationError(
            f"{path} is a damaged Parquet file ({error!s:.100}); fetch it again."
        ) from error
    return records


def _read_json(path: Path) -> Sequence[Any]:
    """A list of records, an object with such a list per split, or a record per line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise AnnotationError(
            f"{path} is no valid JSON ({error!s:.100}); fetch it again."
        ) from None
    if isinstance(value, list):
        return value
    lists = value.items() if all(isinstance(rows, list) for rows in value.values()) else ()
    return [
        {"split": split, **row} if isinstance(row, dict) else row
        for split, rows in lists
        for row in rows
    ] or [value]


def _expression(record: Any, place: int, path: Path) -> Expression:
    where = f"{path}, record {place}"
    if not isinstance(record, Mapping):
        raise AnnotationError(f"{where} is {shown(record)}; give records of REFER.")
    annotation_id = record.get("ann_id", record.get("annotation_id"))
    if not is_id(annotation_id) or not is_id(record.get("image_id")):
        raise AnnotationError(
            f"{where} has no integers 'ann_id' and 'image_id', by which expressions are joined; "
            "give the original refs(unc).p or a mirror that keeps them."
        )
    split = record.get("split")
    if not isinstance(split, str) or split.casefold() not in _SPLITS:
        known = ", ".join((TRAIN, *EVALUATION))
        raise AnnotationError(f"{where} has the split {shown(split)}; known are {known}.")
    listed = record.get("sentences", record.get("captions"))
    if not isinstance(listed, list) or len(listed) > _MOST_SENTENCES:
        raise AnnotationError(f"{where} has {shown(listed)} as 'sentences'; give a list of texts.")
    sentences = unique_sentences(map(_sentence, listed))
    if sentences is None:
        raise AnnotationError(f"{where} has a sentence that is no text: {shown(listed)}.")
    return Expression(annotation_id, record["image_id"], _SPLITS[split.casefold()], sentences)


def _sentence(value: Any) -> Any:
    """The text of a sentence: REFER's `sent`, which is cleaned, or else what was written."""
    if isinstance(value, Mapping):
        found = [value[name] for name in ("sent", "raw") if name in value]
        return next((text for text in found if text), found[0] if found else None)
    return value


def unique_sentences(values: Iterable[Any]) -> tuple[str, ...] | None:
    """Texts in one line each, every one once, without empty ones; None where one is no text."""
    sentences: dict[str, None] = {}
    for value in values:
        if not isinstance(value, str) or any("\ud800" <= sign <= "\udfff" for sign in value):
            return None
        sentences[" ".join(value.split())] = None
    sentences.pop("", None)
    return tuple(sentences)
