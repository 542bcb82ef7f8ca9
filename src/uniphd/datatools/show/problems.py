"""What is wrong with each person of a file, as `uniphd-data check` finds it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from uniphd.datatools.check.files import DataFile
from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.image_files import look_at_images
from uniphd.datatools.check.report import by_kind, describe
from uniphd.datatools.check.run import check_files, image_keys
from uniphd.datatools.show.people import PeopleFile

_NO_PROBLEMS = ("COCO form",)


@dataclass(frozen=True)
class FileProblems:
    """What is wrong with a file.

    Attributes:
        people: kind and explanation by place of the annotation in the file.
        whole: sentences about what is nobody's on the page.
    """

    people: Mapping[int, Sequence[tuple[str, str]]]
    whole: tuple[str, ...] = ()


def find_problems(
    files: Sequence[tuple[DataFile, PeopleFile]], workers: int
) -> Iterator[FileProblems]:
    """Check files, their images, and one file against the others.

    Args:
        files: each as it is and as its people.
        workers: processes for annotations, and threads for images.
    """
    keys = [key for file, _ in files for key in image_keys(file)]
    images = look_at_images(keys, workers, lambda: None)
    checks = check_files([file for file, _ in files], images, workers)
    for check, (_, people) in zip(checks, files, strict=True):
        yield _by_person(check.findings, people)


def _by_person(findings: Sequence[Finding], file: PeopleFile) -> FileProblems:
    known = {person.place for person in file.people}
    of_image: dict[int | None, list[int]] = defaultdict(list)
    for person in file.people:
        of_image[person.image_place].append(person.place)
    people: dict[int, list[tuple[str, str]]] = defaultdict(list)
    whole: list[str] = []
    for kind, found in by_kind(findings):
        rest = []
        for finding in found:
            place, image_place = finding.annotation_place, finding.image_place
            places = [place] if place in known else []
            if place is None and image_place is not None:
                places = of_image[image_place]
            for concerned in places:
                people[concerned].append((kind, describe(finding)))
            if not places:
                rest.append(finding)
        if rest and kind not in _NO_PROBLEMS:
            example = ", ".join(part for part in (rest[0].where, describe(rest[0])) if part)
            first = f", such as {example}" if example else ""
            whole.append(f"{file.name}: {len(rest):,} x {kind}{first}.")
    return FileProblems(people, tuple(whole))
