"""From COCO's keypoint annotations to RefHuman's format, in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uniphd.data.categories import keypoint_order
from uniphd.datatools.from_coco.captions import Captions, join_file, join_refer
from uniphd.datatools.from_coco.entries import Converted, Converter, Job
from uniphd.datatools.from_coco.excluded import excluded_images
from uniphd.datatools.from_coco.images import IMAGES, copy_images, place_images, prefix_of
from uniphd.datatools.from_coco.people import CocoPeople, read_people
from uniphd.datatools.from_coco.report import Report
from uniphd.datatools.from_coco.selection import Rules, select_people
from uniphd.datatools.from_coco.templates import template_captions
from uniphd.datatools.from_coco.writer import write_entries
from uniphd.datatools.json_stream import open_json, read_span
from uniphd.errors import AnnotationError, ConfigError
from uniphd.keypoints import keypoint_schema
from uniphd.synthetic.parallel import parallel_map

_WORTH_PROCESSES = 2000  # people, whom one process converts while others start

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What to make.

    Attributes:
        annotations: COCO's keypoint annotations.
        images: folder of their images.
        out: folder of the data set.
        name: of the file to write in it.
        rules: who is taken.
        refer: files of expressions.
        splits: whose expressions are taken; none for all.
        captions: a file of captions, or None.
        template: whether people without text get captions by place and size.
        exclude: "refcoco-eval" or files of image ids, whose images are left out.
        text_only: whether people without text are left out.
        per_sentence: whether every caption is an entry of its own.
        keypoints: name of the keypoint set.
        seed: of the scribbles.
        copy: whether images are copied.
        overwrite: whether a file of that name is replaced.
        workers: processes; None for one per core.
    """

    annotations: Path
    images: Path
    out: Path
    name: str
    rules: Rules
    refer: Sequence[Path] = ()
    splits: Sequence[str] = ()
    captions: Path | None = None
    template: bool = False
    exclude: Sequence[str] = ()
    text_only: bool = False
    per_sentence: bool = False
    keypoints: str = "coco"
    seed: int = 0
    copy: bool = False
    overwrite: bool = False
    workers: int | None = None


def convert(
    request: Request, progress: Callable[[Iterable[Converted], int], Iterable[Converted]]
) -> Report:
    """Write the data set.

    Args:
        request: what to make.
        progress: is given the converted people and their number, and passes them on.

    Raises:
        AnnotationError: a file cannot be read, or nobody is left.
        ConfigError: the request contradicts itself, or the place to write to is taken.
        StorageError: the file cannot be written.
    """
    _refuse(request)
    people = read_people(request.annotations)
    captions = _join(request, people)
    excluded = excluded_images(request.exclude, captions.evaluation_images)
    selection = select_people(people, request.rules, excluded)
    report = Report(request.annotations, len(people) + people.other_classes + people.unusable)
    report.left_out.update(
        {"of another class": people.other_classes, "without usable ids": people.unusable}
    )
    report.left_out.update(selection.left_out)
    places = selection.places.tolist()
    if request.template:
        for annotation_id, texts in template_captions(people, selection.places).items():
            captions.add(annotation_id, texts, "template")
    report.expressions = captions.found
    places = _with_images(request, people, places, report)
    if request.text_only:
        ids = people.ids.tolist()
        described = [place for place in places if ids[place] in captions.texts]
        report.left_out["without text"] = len(places) - len(described)
        places = described
    _warn_of_leakage(request, people, captions, places)
    _require_somebody(places, report)
    _write(request, people, captions, places, report, progress)
    return report


def _refuse(request: Request) -> None:
    rules = request.rules
    if rules.min_keypoints < 1 or rules.min_others < 0 or not 0 <= rules.min_area <= 1:
        raise ConfigError(
            f"The rules are {asdict(rules)}; give at least 1 keypoint, without which nobody is "
            "trained on, no negative number, and the area as a fraction of the image."
        )
    if request.workers is not None and request.workers < 1:
        raise ConfigError(f"workers is {request.workers}; give a number of at least 1.")
    if request.splits and not request.refer:
        raise ConfigError("--splits chooses expressions of --refer; give their file.")
    if not request.images.is_dir():
        raise ConfigError(f"{request.images} is no folder; give that of the images.")
    path = request.out / request.name
    if Path(request.name).name != request.name:
        raise ConfigError(f"The name {request.name!r} is a path; give a file name.")
    if path.exists() and not request.overwrite:
        raise ConfigError(f"{path} exists; give another --name, or --overwrite to replace it.")


def _join(request: Request, people: CocoPeople) -> Captions:
    captions = Captions()
    join_refer(captions, request.refer, request.splits, people)
    if request.captions is not None:
        join_file(captions, request.captions, people)
    return captions


def _with_images(
    request: Request, people: CocoPeople, places: Sequence[int], report: Report
) -> list[int]:
    """Those whose image is there; the others are counted and their images named."""
    image_ids = people.image_ids[places].tolist()
    there = {
        image_id: (request.images / people.images[image_id].file_name).is_file()
        for image_id in dict.fromkeys(image_ids)
    }
    report.missing = [people.images[i].file_name for i, found in there.items() if not found]
    if report.missing and not any(there.values()):
        raise AnnotationError(
            f"{request.images} has none of the {len(there):,} images, such as {report.missing[0]}; "
            f"give the folder of the images of {request.annotations}."
        )
    kept = [place for place, image in zip(places, image_ids, strict=True) if there[image]]
    report.left_out["image not in the folder"] = len(places) - len(kept)
    return kept


def _warn_of_leakage(
    request: Request, people: CocoPeople, captions: Captions, places: Sequence[int]
) -> None:
    """Say so where people of evaluation images are among those to train on."""
    wanted = set(request.splits)
    if not captions.evaluation_images or (wanted and "train" not in wanted):
        return
    image_ids = people.image_ids[places].tolist()
    inside = sum(image_id in captions.evaluation_images for image_id in image_ids)
    if inside:
        ids = people.ids[places].tolist()
        told = sum(annotation_id in captions.evaluation_people for annotation_id in ids)
        _logger.warning(
            "%d people are in images of RefCOCO's validation and test splits, %d of them with "
            "expressions of these; a network trained on them cannot be evaluated there: leave them "
            "out with --exclude refcoco-eval",
            inside,
            told,
        )


def _require_somebody(places: Sequence[int], report: Report) -> None:
    if not places:
        rules = ", ".join(f"{count:,} x {name}" for name, count in report.left_out.items() if count)
        raise AnnotationError(
            f"{report.file} has nobody left ({rules}); choose weaker rules, such as --all."
        )


def _write(
    request: Request,
    people: CocoPeople,
    captions: Captions,
    places: Sequence[int],
    report: Report,
    progress: Callable[[Iterable[Converted], int], Iterable[Converted]],
) -> None:
    schema = keypoint_schema(request.keypoints)
    order = keypoint_order(people.categories, schema, str(people.file))
    converter = Converter(schema, order, people.categories, request.seed, request.per_sentence)
    prefix = prefix_of(request.images, request.out)
    used: dict[str, None] = {}

    def counted() -> Iterator[Converted]:
        jobs = _jobs(people, captions, places, prefix)
        few = 1 if len(places) < _WORTH_PROCESSES else None
        results = parallel_map(converter, jobs, request.workers or few)
        for place, person in zip(places, progress(results, len(places)), strict=True):
            _count(person, int(people.ids[place]), captions, report)
            if person.problem is None:
                used[people.images[int(people.image_ids[place])].file_name] = None
                report.images = len(used)
            yield person

    def about() -> dict[str, Any]:
        if not report.people:
            _require_somebody([], report)
        place_images(request.images, request.out, request.copy)
        if request.copy:
            copy_images(request.images, request.out / IMAGES / prefix, used)
        return _about(request, people, schema.names, report)

    write_entries(request.out / request.name, counted(), about)


def _jobs(
    people: CocoPeople, captions: Captions, places: Sequence[int], prefix: str
) -> Iterator[Job]:
    with open_json(people.file) as file:
        for place in places:
            annotation_id, image_id = int(people.ids[place]), int(people.image_ids[place])
            image = people.images[image_id]
            yield Job(
                read_span(file, int(people.starts[place]), int(people.lengths[place])),
                annotation_id,
                image_id,
                image._replace(file_name=prefix + image.file_name),
                captions.texts.get(annotation_id, ()),
                captions.source.get(annotation_id),
            )


def _count(person: Converted, annotation_id: int, captions: Captions, report: Report) -> None:
    if person.problem is not None:
        report.left_out[f"field that cannot be used: {person.problem}"] += 1
        return
    report.people += 1
    report.entries += len(person.images)
    if annotation_id in captions.texts:
        report.described[captions.source[annotation_id]] += 1
        report.captions += len(captions.texts[annotation_id])


def _about(
    request: Request, people: CocoPeople, names: Sequence[str], report: Report
) -> dict[str, Any]:
    """What stands in the new file beside the two lists; nothing about when and how fast."""
    skeletons = [
        entry["skeleton"]
        for entry in people.about.get("categories", ())
        if isinstance(entry, dict) and entry.get("id") in people.categories.people
        if isinstance(entry.get("skeleton"), list)
    ]
    same_order = tuple(people.categories.keypoints) in ((), tuple(names))
    skeleton = {"skeleton": skeletons[0]} if skeletons and same_order else {}
    info = {
        "description": f"People of {people.file.name} in RefHuman's format",
        "made_by": "uniphd-data from-coco",
        "seed": request.seed,
        "rules": asdict(request.rules),
        "expressions": [path.name for path in request.refer],
        "splits": list(request.splits),
        "excluded": [Path(name).name for name in request.exclude],
        "report": report.values(),
    }
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(names)}
    return {
        "info": info,
        **{key: people.about[key] for key in ("licenses",) if key in people.about},
        "categories": [{**category, **skeleton}],
    }
