"""Who is described by which words, and where these are from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uniphd.data.validation import is_id, shown
from uniphd.datatools.from_coco.people import CocoPeople
from uniphd.datatools.from_coco.refer import EVALUATION, Expression, read_refer, unique_sentences
from uniphd.errors import AnnotationError


@dataclass
class Captions:
    """Captions by annotation id, and what was found of each source.

    Attributes:
        texts: captions of a person, at least one, each once.
        source: "refer", "file" or "template", by annotation id.
        found: lines of the report.
        evaluation_images: images of COCO in which expressions of evaluation splits are.
        evaluation_people: people whom a joined expression of an evaluation split means.
    """

    texts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    source: dict[int, str] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    evaluation_images: set[int] = field(default_factory=set)
    evaluation_people: set[int] = field(default_factory=set)

    def add(self, annotation_id: int, texts: Sequence[str], source: str) -> None:
        """Add captions of a person beside those of the same source; another source is left out."""
        if self.source.setdefault(annotation_id, source) == source:
            known = self.texts.get(annotation_id, ())
            self.texts[annotation_id] = tuple(dict.fromkeys((*known, *texts)))


def join_refer(
    captions: Captions, paths: Sequence[Path], splits: Sequence[str], people: CocoPeople
) -> None:
    """Join the expressions of files by annotation id.

    Args:
        captions: to add to.
        paths: files of expressions.
        splits: whose expressions are taken; none for all.
        people: of the COCO file.

    Raises:
        AnnotationError: a file cannot be read, has none of the splits, means another image than the
            COCO file says, or means nobody in it.
    """
    image_of = dict(zip(people.ids.tolist(), people.image_ids.tolist(), strict=True))
    for path in paths:
        expressions = read_refer(path)
        there = sorted({expression.split for expression in expressions})
        if splits and not set(splits) & set(there):
            raise AnnotationError(
                f"{path} has no expressions of {', '.join(splits)}; it has {', '.join(there)}."
            )
        captions.evaluation_images |= {
            expression.image_id for expression in expressions if expression.split in EVALUATION
        }
        joined = [
            expression
            for expression in expressions
            if _means_a_person(expression, image_of, path, people.file)
        ]
        if not joined:
            raise AnnotationError(
                f"{path} means nobody in {people.file}: none of its {len(expressions):,} "
                "annotation ids is there; give the annotations of COCO's train2017 or train2014."
            )
        taken = [e for e in joined if e.sentences and (not splits or e.split in splits)]
        for expression in taken:
            captions.add(expression.annotation_id, expression.sentences, "refer")
            if expression.split in EVALUATION:
                captions.evaluation_people.add(expression.annotation_id)
        captions.found.append(
            f"{path}: {len(expressions):,} records, {len(joined):,} of people in this file, "
            f"{len(taken):,} of them taken ({', '.join(splits or there)})"
        )


def _means_a_person(
    expression: Expression, image_of: Mapping[int, int], path: Path, file: Path
) -> bool:
    image_id = image_of.get(expression.annotation_id)
    if image_id is not None and image_id != expression.image_id:
        raise AnnotationError(
            f"{path} has the annotation {expression.annotation_id} in image {expression.image_id}, "
            f"{file} has it in image {image_id}; give files of the same annotations."
        )
    return image_id is not None


def join_file(captions: Captions, path: Path, people: CocoPeople) -> None:
    """Join a file of JSON Lines: `{"annotation_id": 7, "captions": ["...", ...]}` or `"caption"`.

    Raises:
        AnnotationError: the file is missing, a line is something else, or means nobody here.
    """
    ids = set(people.ids.tolist())
    lines = joined = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                annotation_id, texts = _parse_line(line, f"{path}, line {number}")
                lines += 1
                if annotation_id in ids:
                    joined += 1
                    captions.add(annotation_id, texts, "file")
    except FileNotFoundError:
        raise AnnotationError(f"{path} does not exist; give a file of captions.") from None
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not in UTF-8 ({error.reason}); save it so.") from None
    if not joined:
        raise AnnotationError(
            f"{path} means nobody in {people.file}: none of its {lines:,} annotation ids is there."
        )
    captions.found.append(f"{path}: {lines:,} lines, {joined:,} of people in this file")


def _parse_line(line: str, where: str) -> tuple[int, tuple[str, ...]]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    value = value if isinstance(value, dict) else {}
    annotation_id = value.get("annotation_id")
    listed = value.get("captions", [value["caption"]] if "caption" in value else None)
    texts = unique_sentences(listed) if isinstance(listed, list) else None
    if not is_id(annotation_id) or not texts:
        raise AnnotationError(
            f'{where} is {shown(line.strip())}; write {{"annotation_id": 7, "captions": ["..."]}}.'
        )
    return annotation_id, texts
