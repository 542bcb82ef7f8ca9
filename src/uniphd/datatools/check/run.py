"""Checking a folder: files, entries, fields, people, images and splits, in this order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.progress import Progress

from uniphd.data.categories import Categories, keypoint_order, parse_categories
from uniphd.data.validation import shown
from uniphd.datatools.check.files import DataFile, read_files
from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.image_files import (
    ImageKey,
    Images,
    copies,
    image_findings,
    look_at_images,
)
from uniphd.datatools.check.orders import order_findings
from uniphd.datatools.check.pairs import Pair, pair_entries
from uniphd.datatools.check.people import boxes_from_one, contradictions, repetitions
from uniphd.datatools.check.records import Form, Record, check_record
from uniphd.datatools.packed_json import read_packed, whole
from uniphd.errors import AnnotationError
from uniphd.keypoints import COCO17, SCHEMAS, KeypointSchema
from uniphd.plain_values import PERSON
from uniphd.synthetic.parallel import parallel_map

Advance: TypeAlias = Callable[[str, int, int], None]
"""Called with what is counted, how many are done more, and how many there are."""

_CHUNK = 250  # people handed to a process at a time
_LEAST_FOR_PROCESSES = 5000  # people: below, processes take longer to start than to work
_NOTHING = Pair({}, {}, 0, 0)
_SIZE_KINDS = ("image size",)


@dataclass
class FileCheck:
    """What is found in a file.

    Attributes:
        file: that was checked.
        form: of its people; None where it cannot be read.
        records: its people.
        findings: what is wrong.
    """

    file: DataFile
    form: Form | None = None
    records: list[Record] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass
class FolderCheck:
    """What is found in a folder.

    Attributes:
        root: the folder.
        checks: of its files.
        images: its image files.
    """

    root: Path
    checks: list[FileCheck]
    images: Images

    @property
    def findings(self) -> list[Finding]:
        """All of them."""
        return [finding for check in self.checks for finding in check.findings]

    @property
    def status(self) -> int:
        """0 for nothing, 1 for problems, 2 where a file cannot be read."""
        kinds = {finding.kind for finding in self.findings}
        return 2 if "unreadable file" in kinds else 1 if kinds else 0


def check_folder(root: Path, workers: int, linked_folders: Sequence[Path] = ()) -> FolderCheck:
    """Check the annotation files of a folder and their images.

    Args:
        root: the folder.
        workers: processes for annotations, and threads for images.
        linked_folders: folders elsewhere into which links of the image folder may lead.

    Raises:
        AnnotationError: there is no such folder, or no annotation file in it.
    """
    files = read_files(root, read_packed)
    with _progress() as advance:
        keys = [key for file in files for key in image_keys(file)]
        total = len(set(keys))
        images = look_at_images(keys, workers, lambda: advance("images", 1, total), linked_folders)
        return FolderCheck(root, check_files(files, images, workers, advance), images)


def check_files(
    files: Sequence[DataFile],
    images: Images,
    workers: int = 1,
    advance: Advance = lambda what, more, total: None,
) -> list[FileCheck]:
    """Check annotation files whose images are known."""
    checks = [_check_file(file, images, workers, advance) for file in files]
    _check_copies(checks, images)
    _check_splits(checks, images)
    return checks


def image_keys(file: DataFile) -> Iterator[ImageKey]:
    """The images that a file names, those without people, too."""
    entries = file.content["images"] if file.content else []
    for entry in entries:
        name = _plain_name(entry)
        if name:
            yield file.images, name


def _check_file(file: DataFile, images: Images, workers: int, advance: Advance) -> FileCheck:
    check = FileCheck(file, findings=list(file.findings))
    if file.content is None:
        return check
    findings = check.findings
    if file.is_coco_form:
        findings.append(Finding("COCO form", file.name, note="no image has a caption"))
    form = check.form = _form(file, findings)
    pairs = pair_entries(file.content, file.name, form.coco, findings)
    check.records = list(_check_pairs(pairs, file.name, form, workers, advance))
    for record in check.records:
        image = images.get((file.images, record.file_name or ""))
        if image is None:
            continue
        found = list(image_findings(record, file.name, image))
        if any(finding.kind in _SIZE_KINDS for finding in found):
            record.findings, record.geometry, record.keypoints = [], None, None
        record.findings += found
    whole = [*contradictions(check.records, file.name), *boxes_from_one(check.records, file.name)]
    findings += [finding for record in check.records for finding in record.findings]
    findings += whole
    findings += order_findings(check.records, file.name, form)
    findings += repetitions(check.records, file.name)
    return check


def _form(file: DataFile, findings: list[Finding]) -> Form:
    """The form of a file's people; what `categories` has wrong is found."""
    assert file.content is not None
    schema, order, categories = COCO17, None, Categories()
    try:
        categories = parse_categories(file.content, file.name)
    except AnnotationError as error:
        value = shown(file.content.get("categories"))
        findings.append(
            Finding("no category of people", file.name, "categories", value, str(error))
        )
        everybody = {
            entry["category_id"]
            for entry in file.content["annotations"]
            if isinstance(entry, Mapping) and type(entry.get("category_id")) is int
        }
        return Form(
            schema, list(range(len(schema))), Categories(frozenset(everybody)), file.is_coco_form
        )
    try:
        schema = _fitting_schema(categories, file.name)
        order = keypoint_order(categories, schema, file.name)
    except AnnotationError as error:
        value = shown(list(categories.keypoints))
        findings.append(
            Finding("other keypoints", file.name, "categories.keypoints", value, str(error))
        )
    if categories.names and categories.people != {PERSON}:
        ids = ", ".join(map(str, sorted(categories.people)))
        findings.append(
            Finding("person is not category 1", file.name, "categories.id", ids, "read by name")
        )
    return Form(schema, order, categories, file.is_coco_form)


def _fitting_schema(categories: Categories, file: str) -> KeypointSchema:
    """The keypoint set of a file by its names; COCO's where it has none."""
    for schema in (COCO17, *SCHEMAS.values()):
        try:
            keypoint_order(categories, schema, file)
        except AnnotationError:
            continue
        return schema
    return COCO17


def _check_pairs(
    pairs: Sequence[Pair], file: str, form: Form, workers: int, advance: Advance
) -> Iterator[Record]:
    chunks = list(_chunks(pairs))
    processes = workers if len(pairs) >= _LEAST_FOR_PROCESSES else 1
    work = partial(_check_chunk, file, form)
    for chunk, records in zip(chunks, parallel_map(work, chunks, processes), strict=True):
        for pair, record in zip(chunk, records, strict=True):
            record.pair = pair
            yield record
        advance(f"people of {file}", len(chunk), len(pairs))


def _check_chunk(file: str, form: Form, pairs: Sequence[Pair]) -> list[Record]:
    read = (replace(p, image=whole(p.image), annotation=whole(p.annotation)) for p in pairs)
    records = [check_record(pair, file, form) for pair in read]
    for record in records:
        record.pair = _NOTHING  # who asked has it
    return records


def _chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    rest = iter(pairs)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def _check_copies(checks: Sequence[FileCheck], images: Images) -> None:
    """Find images of one file that have the same bytes under two names."""
    for check in checks:
        folder, names = check.file.images, {record.file_name for record in check.records}
        of_file = {
            key: image for key, image in images.items() if key[0] == folder and key[1] in names
        }
        first_of = {key[1]: first[1] for key, first in copies(of_file)}
        for record in check.records:
            first = first_of.get(record.file_name or "")
            if first is not None:
                check.findings.append(
                    record.pair.finding(
                        "image under two names",
                        check.file.name,
                        field="file_name",
                        value=record.file_name or "",
                        note=f"has the bytes of {first}",
                    )
                )


def _check_splits(checks: Sequence[FileCheck], images: Images) -> None:
    """Find images of training files that are also in a validation file, by name or by bytes."""
    validation: dict[object, str] = {}
    for check in checks:
        if check.file.split == "val":
            for key in _image_marks(check, images):
                validation.update(dict.fromkeys(key[1], check.file.name))
    for check in checks:
        if check.file.split != "train":
            continue
        for record, marks in _image_marks(check, images):
            other = next((validation[mark] for mark in marks if mark in validation), None)
            if other is not None:
                check.findings.append(
                    record.pair.finding(
                        "validation image in training",
                        check.file.name,
                        field="file_name",
                        value=record.file_name or "",
                        note=f"is also in {other}",
                    )
                )


def _image_marks(check: FileCheck, images: Images) -> Iterator[tuple[Record, tuple[object, ...]]]:
    """Every person with what its image is known by: the place, and the bytes."""
    for record in check.records:
        image = images.get((check.file.images, record.file_name or ""))
        if image is not None and image.kind != "missing image":
            place = (check.file.images, image.name)
            yield record, (place, image.digest) if image.digest else (place,)


def _plain_name(entry: object) -> str:
    """The `file_name` of an entry in one notation; empty where it is none."""
    from uniphd.data.validation import FieldError, parse_file_name

    if not isinstance(entry, Mapping):
        return ""
    try:
        return parse_file_name(entry)
    except FieldError:
        return ""


@contextmanager
def _progress() -> Iterator[Advance]:
    """Bars on the error output, where that is a terminal."""
    console = Console(stderr=True)
    tasks: dict[str, int] = {}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:

        def advance(what: str, more: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.advance(progress.task_ids[tasks[what]], more)

        yield advance
