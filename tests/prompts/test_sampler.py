"""Prompts of a sample: exact at evaluation, drawn in training."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from uniphd.data.annotations import ReferredPerson
from uniphd.data.sample import AnnotatedImage, AnnotatedPerson, crop
from uniphd.errors import ConfigError
from uniphd.prompts import (
    KINDS,
    BoxPrompt,
    FixedPrompt,
    PointPrompt,
    PromptSampler,
    ScribblePrompt,
    TextPrompt,
)


def with_scribbles(someone: AnnotatedPerson, scribbles: torch.Tensor) -> AnnotatedPerson:
    return replace(someone, scribbles=scribbles)


def test_evaluation_prompts_are_the_first_scribble_its_sixth_point_the_box_and_the_caption(
    someone: AnnotatedPerson, person: ReferredPerson
) -> None:
    ratio = np.array([381 / person.width, 277 / person.height])
    stroke = np.floor(person.scribbles[0] * ratio)
    x, y, width, height = person.bbox
    corners = np.array([x, y, x + width, y + height]) * np.tile(ratio, 2)

    scribble = FixedPrompt("scribble")(someone, Random(0))
    assert isinstance(scribble, ScribblePrompt)
    np.testing.assert_array_equal(scribble.points, stroke)
    point = FixedPrompt("point")(someone, Random(0))
    assert isinstance(point, PointPrompt)
    np.testing.assert_array_equal(point.point, stroke[5])
    box = FixedPrompt("box")(someone, Random(0))
    assert isinstance(box, BoxPrompt)
    np.testing.assert_allclose(box.box, corners, rtol=1e-5)
    assert type(box.box) is type(point.point) is type(scribble.points) is torch.Tensor
    assert FixedPrompt("text")(someone, Random(0)) == TextPrompt(person.caption)


def test_training_draws_any_wording_and_the_evaluation_the_first(someone: AnnotatedPerson) -> None:
    someone = replace(someone, caption="a man", other_captions=("the tall one", "he"))
    drawn = [TextPrompt.sample(someone, Random(number)) for number in range(60)]
    counts = Counter(prompt.text for prompt in drawn)
    assert counts.keys() == {"a man", "the tall one", "he"}
    assert min(counts.values()) >= 10
    assert FixedPrompt("text")(someone, Random(0)) == TextPrompt("a man")


def test_evaluation_clamps_points_to_the_image_and_never_redraws(someone: AnnotatedPerson) -> None:
    outside = torch.full((5, 12, 2), 9999.5)
    outside[:, 6:] = -3
    prompt = FixedPrompt("scribble")(with_scribbles(someone, outside), Random(0))
    assert isinstance(prompt, ScribblePrompt)
    assert prompt.points.tolist() == [[380, 276]] * 6 + [[0, 0]] * 6


def strokes_of(someone: AnnotatedPerson) -> list[list[list[float]]]:
    return [torch.floor(stroke).tolist() for stroke in someone.scribbles]


def test_training_takes_any_of_the_five_scribbles(someone: AnnotatedPerson) -> None:
    someone = replace(someone, mask=torch.ones_like(someone.mask))  # none is off
    strokes = strokes_of(someone)
    taken: Counter[int] = Counter()
    for number in range(100):
        prompt = ScribblePrompt.sample(someone, Random(number))
        taken[strokes.index(prompt.points.tolist())] += 1
    assert sorted(taken) == [0, 1, 2, 3, 4]
    assert min(taken.values()) >= 8


def test_training_clicks_on_the_middle_points(someone: AnnotatedPerson) -> None:
    someone = replace(someone, mask=torch.ones_like(someone.mask))
    numbered = torch.arange(12.0).repeat(5, 1)
    someone = with_scribbles(someone, torch.stack([numbered, torch.full((5, 12), 3.0)], dim=-1))
    points = set()
    for number in range(60):
        prompt = PointPrompt.sample(someone, Random(number))
        points.add(tuple(prompt.point.tolist()))
    assert points == {(4, 3), (5, 3), (6, 3), (7, 3)}


@pytest.mark.parametrize("kind", ["point", "scribble"])
def test_training_draws_anew_what_a_crop_cut_off_the_mask(
    someone: AnnotatedPerson, kind: Any
) -> None:
    top, bottom = someone.box[0, [1, 3]].int().tolist()
    whole = AnnotatedImage(Image.new("RGB", (381, 277)), (someone,))
    cropped = crop(whole, top, 0, ((bottom - top) // 2, 381))
    assert cropped is not None
    (half,) = cropped.people
    assert min(stroke[-1][1] for stroke in strokes_of(half)) >= half.size[0]  # all are cut
    mask = half.mask[0].numpy()
    drawn = set()
    for number in range(30):
        prompt = KINDS[kind].sample(half, Random(number))
        points = prompt.points if isinstance(prompt, ScribblePrompt) else prompt.point[None]  # type: ignore[union-attr]
        x, y = points.int().T.numpy()
        assert (mask[y, x] == 1).all()
        drawn.add(tuple(points.flatten().tolist()))
    assert len(drawn) > 20


def test_boxes_move_a_little_and_stay_inside(someone: AnnotatedPerson) -> None:
    exact = someone.box[0]
    extent = (exact[2:] - exact[:2]).repeat(2)
    moves = []
    for number in range(50):
        prompt = BoxPrompt.sample(someone, Random(number))
        assert (prompt.box >= 0).all()
        assert (prompt.box <= torch.tensor([381.0, 277.0, 381.0, 277.0])).all()
        moves.append((prompt.box - exact) / extent)
    largest = torch.stack(moves).abs().max()
    assert 0.035 < largest <= 0.05 + 1e-6


def test_kinds_come_by_their_weights(someone: AnnotatedPerson) -> None:
    sampler = PromptSampler(text=0.5, point=0.25, scribble=0.25)
    kinds = Counter(sampler(someone, Random(f"{number}")).kind for number in range(600))
    assert 255 < kinds["text"] < 345
    assert 110 < kinds["point"] < 190
    assert 110 < kinds["scribble"] < 190
    assert kinds["box"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_alone(someone: AnnotatedPerson, kind: str) -> None:
    weights = dict.fromkeys(KINDS, 0.0) | {kind: 3}
    assert {PromptSampler(**weights)(someone, Random(n)).kind for n in range(20)} == {kind}


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="one above 0"):
        PromptSampler(text=0, point=0, scribble=0, box=0)
    with pytest.raises(ConfigError, match="none below"):
        PromptSampler(text=-1)
    with pytest.raises(ConfigError, match="'ponit' is no kind of prompt; choose from text, point"):
        PromptSampler(ponit=1)
    with pytest.raises(ConfigError, match="'words' is no kind"):
        FixedPrompt("words")


def test_kinds_without_weight_leave_the_draws_as_they_are(someone: AnnotatedPerson) -> None:
    """The older four of a sampler that has five draw what they drew before there was a fifth."""
    before = PromptSampler(text=0.4, point=0.15, scribble=0.2, box=0.25)
    after = PromptSampler(text=0.4, point=0.15, scribble=0.2, box=0.25, mask=0.0)
    for number in range(200):
        old, new = (sampler(someone, Random(number)) for sampler in (before, after))
        assert old.to_json() == new.to_json()
