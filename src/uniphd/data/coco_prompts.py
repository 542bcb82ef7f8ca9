"""Prompts for everybody in a COCO file: made of the annotations with a seed, or read from a file.

Prompts are in pixels of the image as it is stored. They are made or parsed when they are asked for:
the masks of a large file's prompts would not fit into memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Protocol

import torch

from uniphd.data.annotations import ReferredPerson
from uniphd.data.coco_file import CocoFile
from uniphd.data.sample import AnnotatedPerson, annotated_person
from uniphd.data.scribbles import draw_scribbles
from uniphd.errors import PromptError
from uniphd.prompts import KINDS, Prompt, prompt_from_json
from uniphd.prompts.kinds import find_kind

SPATIAL_KINDS = ("point", "scribble", "box", "mask")
"""The kinds of prompt that can be made of a COCO annotation."""

_IDS = ("image_id", "annotation_id")


class CocoPrompts(Protocol):
    """Prompts of a kind for the people of a COCO file."""

    @property
    def name(self) -> str:
        """What tells them from others of the same kind, in names of metrics and files."""
        ...

    def has(self, person: ReferredPerson) -> bool:
        """Whether there is one for a person."""
        ...

    def __call__(self, person: ReferredPerson) -> Prompt:
        """The prompt for a person who has one, in pixels of the stored image."""
        ...


@dataclass(frozen=True)
class SeededPrompts:
    """What RefHuman's evaluation would ask, with a scribble that is drawn anew for every seed.

    A point is the sixth point of the scribble. Boxes are the annotated ones, and masks the
    annotated ones in coarse cells, the same for every seed. What is drawn depends on the seed and
    the annotation's id alone, and is the first scribble of `uniphd-data from-coco` with this seed.

    Attributes:
        kind: of prompt.
        seed: of the scribbles.
    """

    kind: str
    seed: int

    @property
    def name(self) -> str:
        """See the protocol."""
        return f"seed{self.seed}"

    def has(self, person: ReferredPerson) -> bool:
        """Everybody has one."""
        return True

    def __call__(self, person: ReferredPerson) -> Prompt:
        """See the protocol."""
        kind = find_kind(self.kind)
        annotated = annotated_person(person)
        if kind.reads_scribbles:
            annotated = _with_scribble(annotated, person.annotation_id, self.seed)
        return kind.fixed(annotated)


def _with_scribble(annotated: AnnotatedPerson, annotation_id: int, seed: int) -> AnnotatedPerson:
    """The person with the one scribble that a seed draws."""
    random = Random(f"scribbles/{seed}/{annotation_id}")
    scribble = draw_scribbles(annotated.mask[0].numpy(), random, 1)
    return replace(annotated, scribbles=torch.from_numpy(scribble))


@dataclass(frozen=True)
class FilePrompts:
    """The prompts of a kind in a file.

    Attributes:
        name: the file's, without its suffix.
        lines: by annotation id, JSON.
    """

    name: str
    lines: Mapping[int, str]

    def has(self, person: ReferredPerson) -> bool:
        """See the protocol."""
        return person.annotation_id in self.lines

    def __call__(self, person: ReferredPerson) -> Prompt:
        """See the protocol."""
        return prompt_from_json(json.loads(self.lines[person.annotation_id]))


def prompt_lines(
    people: Sequence[ReferredPerson], kinds: Sequence[str], seed: int
) -> Iterator[str]:
    """A line of JSON per person and kind, as `read_prompts` takes them.

    Args:
        people: whom to ask about.
        kinds: of prompt, in their order.
        seed: of the scribbles.
    """
    for person in people:
        ids = {"image_id": person.image_id, "annotation_id": person.annotation_id}
        annotated = _with_scribble(annotated_person(person), person.annotation_id, seed)
        for kind in kinds:
            prompt = find_kind(kind).fixed(annotated)
            yield json.dumps({**ids, "kind": kind, **prompt.to_json()})


def read_prompts(path: Path, coco: CocoFile, kinds: Sequence[str]) -> dict[str, FilePrompts]:
    """The prompts of a file with a JSON object per line.

    Every line is checked now, and parsed again when its prompt is asked for.

    Args:
        path: of `uniphd-data prompts`, or written otherwise: each line has `annotation_id`, `kind`
            and the fields of the prompt's `to_json`; `image_id` is compared with the annotation's
            where there is one.
        coco: whom the prompts are for.
        kinds: that are needed; others are passed over.

    Raises:
        PromptError: the file cannot be read; a line is no prompt, is for nobody in `coco`, outside
            of the image, or a second one of its kind for a person; or a kind does not occur.
    """
    people = {person.annotation_id: person for person in coco.people}
    found: dict[str, dict[int, str]] = {kind: {} for kind in kinds}
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        _keep(line, people, found, coco.path)
                    except PromptError as error:
                        raise PromptError(f"{path}, line {number}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise PromptError(
            f"{path} cannot be read ({reason}); make it with uniphd-data prompts."
        ) from error
    if missing := [kind for kind, lines in found.items() if not lines]:
        raise PromptError(
            f"{path} has no {missing[0]} prompt; ask for other kinds with prompt=NAME, or make the "
            f"file with uniphd-data prompts --kinds {' '.join(kinds)}."
        )
    return {kind: FilePrompts(path.stem, lines) for kind, lines in found.items()}


def _keep(
    line: str, people: Mapping[int, ReferredPerson], found: dict[str, dict[int, str]], coco: Path
) -> None:
    """Check a line and keep it under its kind and annotation id."""
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{line.strip()!r:.80} is no JSON ({error}).") from error
    ids = [value.pop(key, None) for key in _IDS] if isinstance(value, dict) else []
    prompt = prompt_from_json(value, KINDS)
    person = people.get(ids[1]) if isinstance(ids[1], int) else None
    if person is None:
        raise PromptError(
            f"'annotation_id' is {ids[1]!r:.40}, who is nobody to ask about in {coco}; make the "
            "prompts of the same file."
        )
    if ids[0] not in (None, person.image_id):
        raise PromptError(
            f"'image_id' is {ids[0]!r:.40}, but annotation {ids[1]} of {coco} is in image "
            f"{person.image_id}; make the prompts of the same file."
        )
    prompt.require_inside(person.size)
    if prompt.kind in found:
        if person.annotation_id in found[prompt.kind]:
            raise PromptError(
                f"there are two {prompt.kind} prompts for annotation {ids[1]}; keep one."
            )
        found[prompt.kind][person.annotation_id] = json.dumps(value)
