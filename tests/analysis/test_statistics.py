"""Statistics of a data set, against numbers counted by hand and from the raw file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uniphd.analysis.statistics import (
    describe_people,
    plot_captions,
    plot_heights,
    plot_labels,
    plot_people_per_image,
)
from uniphd.data.annotations import load_annotations


def test_people_count_once_and_captions_all(make_person) -> None:
    first = make_person(1, 20, caption="The man in the red T-shirt")
    again = replace(first, image_id=2, caption="red", other_captions=("a red, red hat",))
    bystander = make_person(3, 60)
    alone = make_person(4, 20, "b.jpg", labelled=False)
    statistics = describe_people([first, again, alone], [bystander])
    assert sorted(statistics.people_per_image) == [1, 2]
    assert len(statistics.heights) == len(statistics.visible) == 3
    assert statistics.heights == pytest.approx(0.4)
    assert sorted(statistics.caption_lengths) == [1, 1, 4, 6]
    assert statistics.vocabulary["red"] == 4
    assert statistics.vocabulary["t-shirt"] == 1
    assert statistics.visible.mean() == pytest.approx(2 / 3)


def test_real_people_are_counted_as_the_file_has_them(refhuman_mini: Path) -> None:
    path = refhuman_mini / "RefHuman_val.json"
    raw = json.loads(path.read_text())
    statistics = describe_people(load_annotations(path).instances)
    files = {image["id"]: image["file_name"] for image in raw["images"]}
    people = {
        (files[a["image_id"]], json.dumps(a["keypoints"])): a["keypoints"]
        for a in raw["annotations"]
    }
    assert sorted(statistics.people_per_image) == sorted(
        Counter(file for file, _ in people).values()
    )
    assert statistics.visible.sum() == sum(
        np.array(k)[2::3].tolist().count(2) for k in people.values()
    )
    assert statistics.hidden.sum() == sum(
        np.array(k)[2::3].tolist().count(1) for k in people.values()
    )
    assert len(statistics.caption_lengths) == len(raw["images"])


def test_figures_show_the_numbers(drawn) -> None:
    statistics = describe_people([record for scene in drawn for record in scene.annotations])
    crowds = plot_people_per_image(statistics).axes[0]
    assert sum(bar.get_height() for bar in crowds.patches) == len(drawn)
    heights = plot_heights(statistics).axes[0]
    assert sum(bar.get_height() for bar in heights.patches) == len(statistics.heights)
    labels = plot_labels(statistics).axes[0]
    shares = np.array([bar.get_width() for bar in labels.patches]).reshape(3, 17)
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    np.testing.assert_allclose(shares[0], statistics.visible.mean(axis=0))
    words = plot_captions(statistics, words=3).axes[1]
    assert [bar.get_width() for bar in words.patches] == sorted(
        (bar.get_width() for bar in words.patches), reverse=True
    )
    assert not {"the", "a", "in"} & {label.get_text() for label in words.get_yticklabels()}


def test_nobody_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one annotation"):
        describe_people([])
