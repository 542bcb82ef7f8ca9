"""The statistics of annotation files as plain values, as a table and as plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from uniphd.analysis.statistics import (
    COCO_SIZES,
    PeopleStatistics,
    describe_people,
    frequent_words,
    plot_areas,
    plot_captions,
    plot_heights,
    plot_keypoints_per_person,
    plot_labels,
    plot_people_per_image,
)
from uniphd.data.annotations import load_annotations
from uniphd.datatools.check.files import DataFile
from uniphd.datatools.show.people import file_keypoints, find_files
from uniphd.errors import AnnotationError, printable

_WORDS = 20
_QUANTILES = {"min": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "max": 1.0}
_PLOTS = {
    "people_per_image": plot_people_per_image,
    "areas": plot_areas,
    "heights": plot_heights,
    "keypoints_per_person": plot_keypoints_per_person,
    "keypoints": plot_labels,
    "captions": plot_captions,
}


@dataclass(frozen=True)
class FileStatistics:
    """The statistics of an annotation file.

    Attributes:
        name: of the file.
        prompts: annotations that are used; a person who is described twice has two.
        left_out: how many annotations have a problem, by its kind.
        people: the statistics.
    """

    name: str
    prompts: int
    left_out: Mapping[str, int]
    people: PeopleStatistics


def describe_folder(root: Path, splits: Sequence[str] = ()) -> list[FileStatistics]:
    """Count what the annotation files of a folder hold, by what training would use of them.

    Args:
        root: folder of the data set, or an annotation file.
        splits: see `find_files`.

    Raises:
        AnnotationError: there are no annotations in RefHuman's form.
    """
    folder = root.parent if root.is_file() else root
    return [_describe(folder, file) for file in find_files(root, splits)]


def _describe(folder: Path, file: DataFile) -> FileStatistics:
    if file.content is None:
        raise AnnotationError(*(finding.note for finding in file.findings))
    path = folder / file.name
    schema, _ = file_keypoints(file.content, str(path))
    loaded = load_annotations(path, "skip", schema, (), verify_fields=False, text_prompts=False)
    left_out: Counter[str] = Counter()
    for problem in loaded.skipped:
        left_out[problem.kind] += max(1, len(problem.image_ids))
    return FileStatistics(
        file.name, len(loaded.instances), left_out, describe_people(loaded.instances)
    )


def summarize(file: FileStatistics) -> dict[str, Any]:
    """The statistics as plain values, for JSON."""
    people = file.people
    labelled = (people.visible | people.hidden).sum(axis=1)
    return {
        "images": len(people.people_per_image),
        "people": len(people.heights),
        "prompts": file.prompts,
        "left_out": dict(file.left_out),
        "people_per_image": _counts(people.people_per_image),
        "image_width": _quantiles(people.image_sizes[:, 0]),
        "image_height": _quantiles(people.image_sizes[:, 1]),
        "sizes": _sizes(people.areas),
        "area_share": _quantiles(people.area_shares),
        "height_share": _quantiles(people.heights),
        "keypoints_per_person": _counts(labelled),
        "keypoints": {
            name: {"visible": int(visible), "hidden": int(hidden)}
            for name, visible, hidden in zip(
                people.schema.names, people.visible.sum(0), people.hidden.sum(0), strict=True
            )
        },
        "captions": len(people.caption_lengths),
        "words_per_caption": _quantiles(people.caption_lengths),
        "vocabulary": len(people.vocabulary),
        "frequent_words": dict(frequent_words(people, _WORDS)),
    }


def statistics_table(files: Sequence[FileStatistics]) -> Table:
    """A column per file."""
    summaries = [summarize(file) for file in files]
    table = Table("", *(printable(file.name) for file in files), show_edge=False)
    for name in ("images", "people", "prompts"):
        table.add_row(name, *(f"{summary[name]:,}" for summary in summaries))
    table.add_row("left out", *(_listed(summary["left_out"]) for summary in summaries))
    table.add_row("people per image", *(_distribution(s["people_per_image"]) for s in summaries))
    table.add_row("size of people", *(_shares(s["sizes"], s["people"]) for s in summaries))
    for name, label, form in (
        ("area_share", "share of the image's area", ".1%"),
        ("height_share", "share of its height", ".0%"),
        ("image_width", "image width", ".0f"),
        ("image_height", "image height", ".0f"),
        ("words_per_caption", "words per caption", ".0f"),
    ):
        table.add_row(label, *(_range(summary[name], form) for summary in summaries))
    table.add_row("keypoints per person", *(_mean(s["keypoints_per_person"]) for s in summaries))
    table.add_row("captions", *(f"{summary['captions']:,}" for summary in summaries))
    table.add_row("different words", *(f"{summary['vocabulary']:,}" for summary in summaries))
    table.add_row(
        "frequent words", *(printable(_listed(summary["frequent_words"])) for summary in summaries)
    )
    return table


def save_plots(files: Sequence[FileStatistics], folder: Path) -> list[Path]:
    """Save the plots of every file.

    Args:
        files: with their statistics.
        folder: where to; made if it is missing.

    Returns:
        The images, `<file>_<what>.png`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for file in files:
        stem = file.name.partition(".json")[0].replace("/", "_")
        for name, plot in _PLOTS.items():
            images.append(folder / f"{stem}_{name}.png")
            plot(file.people).savefig(images[-1], dpi=110)
    return images


def _counts(values: npt.NDArray[Any]) -> dict[str, Any]:
    numbers, counts = np.unique(values, return_counts=True)
    return {
        "mean": round(float(values.mean()), 3),
        "counts": dict(zip(map(str, numbers.tolist()), counts.tolist(), strict=True)),
    }


def _quantiles(values: npt.NDArray[Any]) -> dict[str, float]:
    """Empty where there are no values."""
    if not len(values):
        return {}
    numbers = np.quantile(values, list(_QUANTILES.values())).round(4).tolist()
    return dict(zip(_QUANTILES, numbers, strict=True))


def _sizes(areas: npt.NDArray[Any]) -> dict[str, int]:
    classes = np.searchsorted(list(COCO_SIZES.values()), areas, side="right") - 1
    return {name: int((classes == number).sum()) for number, name in enumerate(COCO_SIZES)}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items()) or "–"


def _distribution(counted: Mapping[str, Any]) -> str:
    return f"mean {counted['mean']:.2f}; {_listed(counted['counts'])}"


def _mean(counted: Mapping[str, Any]) -> str:
    return f"mean {counted['mean']:.2f}"


def _shares(counts: Mapping[str, int], total: int) -> str:
    return ", ".join(f"{name} {count / total:.0%}" for name, count in counts.items())


def _range(quantiles: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in quantiles.items()) or "–"
