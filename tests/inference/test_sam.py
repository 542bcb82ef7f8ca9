"""The interface of SAM 2's image predictor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from uniphd.errors import ImageError, PromptError
from uniphd.inference.predictor import Predictor
from uniphd.inference.sam import SAM2Adapter
from uniphd.synthetic.annotations import AnnotatedScene

INSIDE = np.array([[40.0, 50.0], [42.0, 60.0], [41.0, 70.0]])


@pytest.fixture
def sam(predictor: Predictor, scene: AnnotatedScene) -> SAM2Adapter:
    adapter = SAM2Adapter(predictor)
    adapter.set_image(scene.image)
    return adapter


@pytest.mark.parametrize(
    ("asked", "same"),
    [
        ({"point_coords": INSIDE[:1], "point_labels": np.array([1])}, {"point": (40, 50)}),
        ({"point_coords": INSIDE, "point_labels": np.ones(3)}, {"scribble": INSIDE}),
        ({"box": np.array([30, 40, 60, 90])}, {"box": (30, 40, 60, 90)}),
        ({"box": np.array([[30, 40, 60, 90]])}, {"box": (30, 40, 60, 90)}),
    ],
)
def test_answers_are_the_predictors(
    sam: SAM2Adapter,
    predictor: Predictor,
    scene: AnnotatedScene,
    asked: dict[str, Any],
    same: dict[str, Any],
) -> None:
    masks, scores, logits = sam.predict(**asked)
    expected = predictor.predict(scene.image, **same, top_k=3)
    assert (masks.shape, scores.shape, logits.shape[0]) == ((3, 150, 200), (3,), 3)
    assert {part.dtype for part in (masks, scores, logits)} == {np.dtype(np.float32)}
    for rank, candidate in enumerate(expected.candidates):
        assert np.array_equal(masks[rank], candidate.mask)
        assert scores[rank] == np.float32(candidate.score)
        assert np.array_equal(sam.instances[rank].keypoints, candidate.keypoints)
    best, _, _ = sam.predict(**asked, multimask_output=False)
    assert best.shape == (1, 150, 200)
    soft, _, _ = sam.predict(**asked, return_logits=True)
    assert ((soft > 0) != (masks > 0)).mean() < 1e-3


def test_logits_of_a_call_are_the_mask_of_the_next(sam: SAM2Adapter, predictor: Predictor) -> None:
    masks, _, logits = sam.predict(box=np.array([30, 40, 60, 90]), multimask_output=False)
    sam.predict(mask_input=logits)
    prompt: Any = sam.instances[0].prompt
    assert prompt.kind == "mask"
    assert (prompt.mask.numpy() != (masks[0] > 0)).mean() < 1e-3


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "There are no prompts"),
        (
            {"point_coords": INSIDE, "point_labels": [1, 0, 1]},
            "not on the person are not supported",
        ),
        ({"point_coords": INSIDE, "point_labels": [1]}, "3 labels, one for each point"),
        ({"point_coords": INSIDE}, "3 labels, one for each point"),
        ({"point_coords": [40, 50], "point_labels": [1]}, r"the shape \(2,\)"),
        (
            {"point_coords": INSIDE, "point_labels": [1, 1, 1], "box": [1, 2, 3, 4]},
            "points and a box; give points, a box or a mask, one",
        ),
        ({"box": [[1, 2, 3, 4]] * 2}, "box"),
        ({"mask_input": np.zeros((2, 8, 8))}, r"the shape \(2, 8, 8\)"),
        ({"mask_input": np.full((1, 8, 8), -1.0)}, "mask"),
        ({"box": [0.1, 0.1, 0.5, 0.5], "normalize_coords": False}, "in pixels"),
    ],
)
def test_what_is_not_supported_is_a_sentence(
    sam: SAM2Adapter, asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PromptError, match=sentence):
        sam.predict(**asked)


def test_an_image_is_needed(predictor: Predictor, scene: AnnotatedScene) -> None:
    adapter = SAM2Adapter(predictor)
    with pytest.raises(ImageError, match="call set_image first"):
        adapter.predict(box=[1, 2, 3, 4])
    adapter.set_image(scene.image)
    adapter.reset_predictor()
    with pytest.raises(ImageError, match="call set_image first"):
        adapter.predict(box=[1, 2, 3, 4])
