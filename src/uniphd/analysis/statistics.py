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
        visible: (people, K) keypoints that are labelled and can be seen.
        hidden: (people, K) keypoints that are labelled and occluded.
        caption_lengths: (captions,) words in each.
        vocabulary: how often each word occurs in the captions, in lower case.
        schema: which K keypoints these are.
    """

    people_per_image: _Numbers
    heights: npt.NDArray[np.float64]
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
        visible=labels == 2,
        hidden=labels == 1,
        caption_lengths=np.array([len(words) for words in captions]),
        vocabulary=Counter(word for words in captions for word in words),
        schema=people[0].schema,
    )


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
    telling = [(w, n) for w, n in statistics.vocabulary.most_common() if w not in _FILLERS][:words]
    frequent.barh([word for word, _ in telling], [count for _, count in telling])
    frequent.invert_yaxis()
    frequent.tick_params(axis="y", labelsize="small")
    frequent.set_xlabel("occurrences")
    return figure
