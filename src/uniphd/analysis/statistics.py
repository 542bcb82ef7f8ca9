"""What a data set is made of: people per image, sizes, keypoints, captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from uniphd.data.annotations import ReferredPerson
from uniphd.keypoints import KeypointSchema
from uniphd.metrics.referring import group_by_image

_Numbers: TypeAlias = npt.NDArray[np.int64]
_Flags: TypeAlias = npt.NDArray[np.bool_]

COCO_SIZES = {"small": 0, "medium": 32**2, "large": 96**2}
"""COCO's classes of people, and the square pixels from which on a mask belongs to one."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")

# Words that say nothing about a person.
_FILLERS = frozenset(
    _WORD.findall(
        "a an and are as at be by for from has he her his in is it its of on or she that the "
        "their them they this to who whose with"
    )
)


@dataclass(frozen=True)
class PeopleStatistics:
    """Numbers about annotated people; somebody who is described twice counts once.

    Attributes:
        people_per_image: (images,) people annotated in each.
        heights: (people,) height of the box over that of the image.
        areas: (people,) square pixels of the mask.
        area_shares: (people,) the same over those of the image.
        image_sizes: (images, 2) width and height.
        visible: (people, K) keypoints that are labelled and can be seen.
        hidden: (people, K) keypoints that are labelled and occluded.
        caption_lengths: (captions,) words in each.
        vocabulary: how often each word occurs in the captions, in lower case.
        schema: which K keypoints these are.
    """

    people_per_image: _Numbers
    heights: npt.NDArray[np.float64]
    areas: npt.NDArray[np.float64]
    area_shares: npt.NDArray[np.float64]
    image_sizes: _Numbers
    visible: _Flags
    hidden: _Flags
    caption_lengths: _Numbers
    vocabulary: Counter[str]
    schema: KeypointSchema


def describe_people(
    annotations: Sequence[ReferredPerson], distractors: Sequence[ReferredPerson] = ()
) -> PeopleStatistics:
    """Count what a data set holds.

    Args:
        annotations: the people who are referred to, at least one; every caption of theirs counts.
        distractors: people of the same images to whom no prompt refers.

    Raises:
        ValueError: no annotations.
    """
    if not annotations:
        raise ValueError("There is nobody to describe; give at least one annotation.")
    images = group_by_image(annotations, distractors)
    people = [person for image in images for person in image.people]
    labels = np.stack([person.keypoints[:, 2] for person in people])
    captions = [
        _WORD.findall(caption.lower()) for person in annotations for caption in person.captions
    ]
    return PeopleStatistics(
        people_per_image=np.array([len(image.people) for image in images]),
        heights=np.array([person.bbox[3] / person.height for person in people]),
        areas=np.array([person.area for person in people]),
        area_shares=np.array([person.area / (person.width * person.height) for person in people]),
        image_sizes=np.array([image.people[0].size[::-1] for image in images]),
        visible=labels == 2,
        hidden=labels == 1,
        caption_lengths=np.array([len(words) for words in captions]),
        vocabulary=Counter(word for words in captions for word in words),
        schema=people[0].schema,
    )


def frequent_words(statistics: PeopleStatistics, count: int) -> list[tuple[str, int]]:
    """The most frequent words of the captions but articles and the like, and how often they occur.

    Words of equal frequency are in the order of the alphabet.
    """
    words = [(word, n) for word, n in statistics.vocabulary.items() if word not in _FILLERS]
    return sorted(words, key=lambda pair: (-pair[1], pair[0]))[:count]


def plot_keypoints_per_person(statistics: PeopleStatistics) -> Figure:
    """Bars: how many people have how many labelled keypoints."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    labelled = (statistics.visible | statistics.hidden).sum(axis=1)
    axes.bar(
        range(len(statistics.schema) + 1),
        np.bincount(labelled, minlength=len(statistics.schema) + 1),
    )
    axes.set_xlabel("labelled keypoints")
    axes.set_ylabel("people")
    return figure


def plot_areas(statistics: PeopleStatistics) -> Figure:
    """Histogram of the square roots of the masks' areas, with COCO's limits between sizes."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    sides = np.sqrt(statistics.areas)
    axes.hist(sides, bins=30, edgecolor="white")
    for name, least in COCO_SIZES.items():
        if least:
            axes.axvline(least**0.5, color="black", linestyle="--")
        axes.text(
            least**0.5, 1.01, f" {name}", transform=axes.get_xaxis_transform(), fontsize="small"
        )
    axes.set_xlim(left=0)
    axes.set_xlabel("square root of the mask's area, pixels")
    axes.set_ylabel("people")
    return figure


def plot_people_per_image(statistics: PeopleStatistics) -> Figure:
    """Bars: how many images have one person, two, three, ..."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    numbers, counts = np.unique(statistics.people_per_image, return_counts=True)
    axes.bar_label(axes.bar(numbers.astype(str), counts, width=0.6))
    axes.set_xlabel("people in the image")
    axes.set_ylabel("images")
    axes.margins(y=0.12)
    return figure


def plot_heights(statistics: PeopleStatistics) -> Figure:
    """Histogram of how much of the image's height people take, with the median."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist(statistics.heights, bins=np.linspace(0, 1, 21).tolist(), edgecolor="white")
    median = float(np.median(statistics.heights))
    axes.axvline(median, color="black", linestyle="--", label=f"median {median:.0%}")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("height of the person over height of the image")
    axes.set_ylabel("people")
    axes.legend()
    return figure


def plot_labels(statistics: PeopleStatistics) -> Figure:
    """Bars: for how many people each keypoint is visible, hidden or missing."""
    figure = Figure(figsize=(6, 4.6), layout="constrained")
    axes = figure.subplots()
    visible, hidden = statistics.visible.mean(axis=0), statistics.hidden.mean(axis=0)
    names = [name.replace("_", " ") for name in statistics.schema.names]
    axes.barh(names, visible, label="visible")
    axes.barh(names, hidden, left=visible, label="hidden, yet labelled")
    axes.barh(names, 1 - visible - hidden, left=visible + hidden, color="0.9", label="not labelled")
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlim(0, 1)
    axes.set_xlabel("people")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def plot_captions(statistics: PeopleStatistics, words: int = 24) -> Figure:
    """Lengths of the captions, and their most frequent words but articles and the like.

    Args:
        statistics: of the data set.
        words: how many words to show.
    """
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    lengths, frequent = figure.subplots(1, 2)
    numbers, counts = np.unique(statistics.caption_lengths, return_counts=True)
    lengths.bar(numbers, counts)
    lengths.set_xlabel("words in the caption")
    lengths.set_ylabel("captions")
    telling = frequent_words(statistics, words)
    frequent.barh([word for word, _ in telling], [count for _, count in telling])
    frequent.invert_yaxis()
    frequent.tick_params(axis="y", labelsize="small")
    frequent.set_xlabel("occurrences")
    return figure
