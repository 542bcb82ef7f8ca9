"""From a folder to its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from uniphd.data.annotations import load_annotations
from uniphd.datatools.show.model import PageModel, ShownPerson, select_people
from uniphd.datatools.show.page import write_page
from uniphd.datatools.show.people import PeopleFile, find_files, read_people
from uniphd.datatools.show.predictions import Predictions, judge_predictions, read_predictions
from uniphd.datatools.show.problems import find_problems
from uniphd.errors import AnnotationError
from uniphd.prompts.kinds import KINDS
from uniphd.prompts.text import TextPrompt


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        people: on the page.
        of: in the files.
        images: on the page.
        size: of the page in bytes.
    """

    people: int
    of: int
    images: int
    size: int


def show_folder(
    root: Path,
    out: Path,
    splits: Sequence[str] = (),
    results: Path | None = None,
    limit: int = 10_000,
    side: int = 240,
    image_folder: Path | None = None,
    workers: int = 2,
) -> Written:
    """Write a page with the people of a data set.

    Args:
        root: folder of the data set, or an annotation file.
        out: the page.
        splits: see `find_files`.
        results: a folder of `uniphd-eval`, whose detections are shown beside the annotations. Only
            the file that was evaluated is shown, then.
        limit: how many people to show at most, see `select_people`.
        side: pixels of the longer side of the copies of images.
        image_folder: of the images; None is where most of them are found.
        workers: threads.

    Raises:
        AnnotationError: there are no annotations or results, or they do not belong together.
        StorageError: the page cannot be written.
    """
    predictions = read_predictions(results) if results else None
    found = find_files(root, splits)
    for each in found:
        each.images = image_folder or each.images
    folder = root.parent if root.is_file() else root
    pairs = [(each, read_people(folder, each)) for each in found]
    if predictions:
        evaluated = _evaluated_file([file for _, file in pairs], predictions)
        pairs = [pair for pair in pairs if pair[1] is evaluated]
    people: list[ShownPerson] = []
    notes: list[str] = []
    for (_, file), problems in zip(pairs, find_problems(pairs, workers), strict=True):
        notes += problems.whole
        predicted = _predicted(file, predictions) if predictions else {}
        people += [
            ShownPerson(
                file, person, count, problems.people.get(person.place, ()), predicted.get(place, {})
            )
            for place, (person, count) in enumerate(
                zip(file.people, file.people_per_image, strict=True)
            )
        ]
    if not people:
        raise AnnotationError(f"{root} has no people; give a data set that has.")
    shown = select_people(people, limit)
    if len(shown) < len(people):
        notes.append(_selection_note(shown, people))
    model = PageModel(shown, predictions.kinds if predictions else (), side)
    folders = {file.name: file.images for _, file in pairs}
    size = write_page(out, model, _title(root, results), notes, folders, workers)
    return Written(len(shown), len(people), len(model), size)


def _evaluated_file(files: Sequence[PeopleFile], predictions: Predictions) -> PeopleFile:
    """The one file that has everybody for whom something is predicted."""
    stated = evaluated_names(predictions.folder)[0]
    fitting = [
        file
        for file in files
        if predictions.image_ids <= {p.image_id for p in file.people if type(p.image_id) is int}
    ]
    named = [file for file in fitting if file.name == stated]
    if len(named or fitting) == 1:
        return (named or fitting)[0]
    names = ", ".join(file.name for file in files)
    if fitting:
        raise AnnotationError(
            f"{predictions.folder} has results that fit several of {names}; say which was "
            "evaluated with --split."
        )
    raise AnnotationError(
        f"{predictions.folder} has results for image ids that none of {names} has; give the data "
        "set that was evaluated."
    )


def evaluated_names(folder: Path) -> tuple[str | None, str | None]:
    """The files that `uniphd-eval` was given, where its settings lie beside the results.

    Returns:
        The names of the annotation file and of that of distractors.
    """
    try:
        settings: Any = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text("utf-8"))
        data = settings["data"]
        return data.get("val_file"), data.get("val_distractors_file")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None, None


def _predicted(file: PeopleFile, predictions: Predictions) -> dict[int, dict[str, Any]]:
    """By place in the file: predictions by kind; None for who was asked for and not found."""

    def load(path: Path) -> Any:
        asked = [KINDS[kind] for kind in predictions.kinds if kind in KINDS]
        return load_annotations(
            path,
            "skip",
            file.schema,
            [kind.kind for kind in asked if kind.reads_scribbles],
            verify_fields=False,
            text_prompts=TextPrompt in asked,
        ).instances

    distractors = evaluated_names(predictions.folder)[1]
    beside = load(file.path.parent / distractors) if distractors else ()
    judged = judge_predictions(predictions, load(file.path), beside)
    return {
        place: {kind: judged[kind].get(person.image_id) for kind in predictions.kinds}
        for place, person in enumerate(file.people)
        if type(person.image_id) is int and person.image_id in predictions.image_ids
    }


def _selection_note(shown: Sequence[ShownPerson], people: Sequence[ShownPerson]) -> str:
    wrong = sum(bool(person.problems) for person in shown)
    all_wrong = sum(bool(person.problems) for person in people)
    others = "the worst predictions" if any(p.predictions for p in people) else "others, evenly"
    return (
        f"{len(shown):,} of {len(people):,} people are shown: {wrong:,} of the {all_wrong:,} with "
        f"a problem, and {others}. --limit shows more."
    )


def _title(root: Path, results: Path | None) -> str:
    name = root.resolve().name
    return f"{name}, results of {results.resolve().name}" if results else name
