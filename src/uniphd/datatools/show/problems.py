"""What is wrong with each person of a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uniphd.data.annotations import load_annotations
from uniphd.data.contradictions import find_contradictions
from uniphd.data.geometry import Geometry
from uniphd.data.problems import Problem
from uniphd.datatools.show.people import PeopleFile
from uniphd.errors import AnnotationError


@dataclass(frozen=True)
class FileProblems:
    """What is wrong with a file.

    Attributes:
        people: kind and sentence by place of the annotation in the file.
        whole: sentences about the file as a whole.
    """

    people: Mapping[int, Sequence[tuple[str, str]]]
    whole: tuple[str, ...] = ()


def find_problems(file: PeopleFile) -> FileProblems:
    """Check a file as training does, and its fields against each other."""
    problems: list[Problem] = []
    whole: list[str] = []
    try:
        skipped = load_annotations(
            file.path, "skip", file.schema, scribble_prompts=(), verify_fields=False
        ).skipped
        problems += skipped
    except AnnotationError as error:
        whole.append(str(error))
    found = find_contradictions(_geometries(file), file.name)
    problems += found.systematic + found.single
    places: dict[int, list[int]] = defaultdict(list)
    for person in file.people:
        if type(person.image_id) is int:
            places[person.image_id].append(person.place)
    people: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for problem in problems:
        for image_id in problem.image_ids:
            for place in places[image_id]:
                people[place].append((problem.kind, problem.message))
        if not problem.image_ids:
            whole.append(problem.message)
    return FileProblems(people, tuple(whole))


def _geometries(file: PeopleFile) -> list[Geometry]:
    return [
        Geometry(
            image_id=person.image_id,
            file_name=person.file_name,
            size=person.size,
            counts=person.counts,
            bbox=person.bbox,
            area=person.area,
            keypoints=person.keypoints,
            scribbles=None if person.scribbles is None else person.scribbles.reshape(-1, 2),
        )
        for person in file.people
        if person.size and person.counts and person.file_name and type(person.image_id) is int
    ]
