"""Prompts of a sample: exact at evaluation, drawn in training."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from uniphd.data.annotations import ReferredPerson
from uniphd.data.images import read_image
from uniphd.data.prompts import FixedPrompt, PromptSampler, draw_prompt
from uniphd.data.sample import Scene, crop, make_scene, resize
from uniphd.errors import ConfigError
from uniphd.prompts import BoxPrompt, PointPrompt, ScribblePrompt, TextPrompt


@pytest.fixture
def person(people: tuple[ReferredPerson, ...]) -> ReferredPerson:
    """A drawn person."""
    return people[1]


@pytest.fixture
def scene(folder: Path, person: ReferredPerson) -> Scene:
    """The person's image, twice and a bit as large."""
    image = read_image(folder / "images" / person.file_name)
    return resize(make_scene(image, person), (277, 381))


def with_scribbles(scene: Scene, scribbles: torch.Tensor) -> Scene:
    return replace(scene, scribbles=scribbles)


def test_evaluation_prompts_are_the_first_scribble_its_sixth_point_the_box_and_the_caption(
    scene: Scene, person: ReferredPerson
) -> None:
    ratio = np.array([381 / person.width, 277 / person.height])
    stroke = np.floor(person.scribbles[0] * ratio)
    x, y, width, height = person.bbox
    corners = np.array([x, y, x + width, y + height]) * np.tile(ratio, 2)

    scribble = FixedPrompt("scribble")(scene, Random(0))
    assert isinstance(scribble, ScribblePrompt)
    np.testing.assert_array_equal(scribble.points, stroke)
    point = FixedPrompt("point")(scene, Random(0))
    assert isinstance(point, PointPrompt)
    np.testing.assert_array_equal(point.point, stroke[5])
    box = FixedPrompt("box")(scene, Random(0))
    assert isinstance(box, BoxPrompt)
    np.testing.assert_allclose(box.box, corners, rtol=1e-5)
    assert type(box.box) is type(point.point) is type(scribble.points) is torch.Tensor
    assert FixedPrompt("text")(scene, Random(0)) == TextPrompt(person.caption)


def test_training_draws_any_wording_and_the_evaluation_the_first(scene: Scene) -> None:
    scene = replace(scene, caption="a man", other_captions=("the tall one", "he"))
    drawn = [draw_prompt(scene, "text", Random(number)) for number in range(60)]
    counts = Counter(prompt.text for prompt in drawn if isinstance(prompt, TextPrompt))
    assert counts.keys() == {"a man", "the tall one", "he"}
    assert min(counts.values()) >= 10
    assert FixedPrompt("text")(scene, Random(0)) == TextPrompt("a man")


def test_evaluation_clamps_points_to_the_image_and_never_redraws(scene: Scene) -> None:
    outside = torch.full((5, 12, 2), 9999.5)
    outside[:, 6:] = -3
    prompt = FixedPrompt("scribble")(with_scribbles(scene, outside), Random(0))
    assert isinstance(prompt, ScribblePrompt)
    assert prompt.points.tolist() == [[380, 276]] * 6 + [[0, 0]] * 6


def strokes_of(scene: Scene) -> list[list[list[float]]]:
    return [torch.floor(stroke).tolist() for stroke in scene.scribbles]


def test_training_takes_any_of_the_five_scribbles(scene: Scene) -> None:
    scene = replace(scene, mask=torch.ones_like(scene.mask))  # none is off
    strokes = strokes_of(scene)
    taken: Counter[int] = Counter()
    for number in range(100):
        prompt = draw_prompt(scene, "scribble", Random(number))
        assert isinstance(prompt, ScribblePrompt)
        taken[strokes.index(prompt.points.tolist())] += 1
    assert sorted(taken) == [0, 1, 2, 3, 4]
    assert min(taken.values()) >= 8


def test_training_clicks_on_the_middle_points(scene: Scene) -> None:
    scene = replace(scene, mask=torch.ones_like(scene.mask))
    numbered = torch.arange(12.0).repeat(5, 1)
    scene = with_scribbles(scene, torch.stack([numbered, torch.full((5, 12), 3.0)], dim=-1))
    points = set()
    for number in range(60):
        prompt = draw_prompt(scene, "point", Random(number))
        assert isinstance(prompt, PointPrompt)
        points.add(tuple(prompt.point.tolist()))
    assert points == {(4, 3), (5, 3), (6, 3), (7, 3)}


@pytest.mark.parametrize("kind", ["point", "scribble"])
def test_training_draws_anew_what_a_crop_cut_off_the_mask(scene: Scene, kind: Any) -> None:
    top, bottom = scene.box[0, [1, 3]].int().tolist()
    half = crop(scene, top, 0, ((bottom - top) // 2, 381))
    assert min(stroke[-1][1] for stroke in strokes_of(half)) >= half.size[0]  # all are cut
    mask = half.mask[0].numpy()
    drawn = set()
    for number in range(30):
        prompt = draw_prompt(half, kind, Random(number))
        points = prompt.points if isinstance(prompt, ScribblePrompt) else prompt.point[None]  # type: ignore[union-attr]
        x, y = points.int().T.numpy()
        assert (mask[y, x] == 1).all()
        drawn.add(tuple(points.flatten().tolist()))
    assert len(drawn) > 20


def test_boxes_move_a_little_and_stay_inside(scene: Scene) -> None:
    exact = scene.box[0]
    unmoved = draw_prompt(scene, "box", Random(0))
    assert isinstance(unmoved, BoxPrompt)
    assert torch.equal(unmoved.box, exact)
    extent = (exact[2:] - exact[:2]).repeat(2)
    moves = []
    for number in range(50):
        prompt = draw_prompt(scene, "box", Random(number), box_jitter=0.1)
        assert isinstance(prompt, BoxPrompt)
        assert (prompt.box >= 0).all()
        assert (prompt.box <= torch.tensor([381.0, 277.0, 381.0, 277.0])).all()
        moves.append((prompt.box - exact) / extent)
    largest = torch.stack(moves).abs().max()
    assert 0.07 < largest <= 0.1 + 1e-6


def test_kinds_come_by_their_weights(scene: Scene) -> None:
    sampler = PromptSampler(text=0.5, point=0.25, scribble=0.25)
    kinds = Counter(sampler(scene, Random(f"{number}")).kind for number in range(600))
    assert 255 < kinds["text"] < 345
    assert 110 < kinds["point"] < 190
    assert 110 < kinds["scribble"] < 190
    assert kinds["box"] == 0


@pytest.mark.parametrize("kind", ["text", "point", "scribble", "box"])
def test_one_kind_alone(scene: Scene, kind: str) -> None:
    weights = {"text": 0.0, "point": 0.0, "scribble": 0.0, "box": 0.0, kind: 3}
    assert {PromptSampler(**weights)(scene, Random(n)).kind for n in range(20)} == {kind}


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="one above 0"):
        PromptSampler(text=0, point=0, scribble=0, box=0)
    with pytest.raises(ConfigError, match="none below"):
        PromptSampler(text=-1)
    with pytest.raises(ConfigError, match="box_jitter"):
        PromptSampler(box_jitter=0.5)
    with pytest.raises(ConfigError, match="'words' is no kind"):
        FixedPrompt("words")  # type: ignore[arg-type]
