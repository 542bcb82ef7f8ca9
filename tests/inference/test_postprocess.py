from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from parity.checks_postprocess import CHECKS
from uniphd.inference.postprocess import postprocess, rank, resize_masks
from uniphd.models.outputs import LayerPrediction


def _prediction(images: int, queries: int) -> LayerPrediction:
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(images, queries, *shape, generator=generator)

    return LayerPrediction(
        logits=rand(2),
        boxes=rand(4),
        keypoints=rand(17, 2),
        visibility_logits=rand(17),
        embedding=rand(8),
        centre=rand(2),
    )


def test_ranking_goes_over_queries_and_classes_together() -> None:
    logits = torch.tensor([[[0.0, 3.0], [2.0, 1.0], [-5.0, -4.0]]])
    ranking = rank(logits)
    assert ranking.queries.tolist() == [[0, 1, 1]]
    assert ranking.labels.tolist() == [[1, 1, 1]]
    torch.testing.assert_close(ranking.scores, torch.tensor([[3.0, 2.0, 1.0]]).sigmoid())


@pytest.mark.parametrize(("top", "expected"), [(1, 1), (5, 5), (None, 3), (100, 6)])
def test_ranking_length(top: int | None, expected: int) -> None:
    assert rank(torch.rand(2, 3, 2), top).scores.shape == (2, expected)


def test_coordinates_become_pixels_of_each_image() -> None:
    prediction = _prediction(images=2, queries=3)
    ranking = rank(prediction.logits, top=2)
    sizes, originals = [(32, 40), (24, 48)], [(64, 80), (120, 240)]
    answers = postprocess(prediction, ranking, None, sizes, originals)
    for i, (answer, (height, width)) in enumerate(zip(answers, originals, strict=True)):
        assert len(answer) == 2
        assert answer.masks is None
        for t, query in enumerate(ranking.queries[i].tolist()):
            cx, cy, w, h = prediction.boxes[i, query].tolist()
            corners = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            expected = torch.tensor(corners) * torch.tensor([width, height, width, height])
            torch.testing.assert_close(answer.boxes[t], expected)
            points = prediction.keypoints[i, query] * torch.tensor([width, height])
            torch.testing.assert_close(answer.keypoints[t], points)
            shown = prediction.visibility_logits[i, query].sigmoid()
            torch.testing.assert_close(answer.visibility[t], shown)


def test_masks_have_the_images_sizes_and_the_rankings_order() -> None:
    prediction = _prediction(images=2, queries=3)
    ranking = rank(prediction.logits, top=2)
    logits = torch.full((2, 2, 32, 48), -1.0)
    logits[:, 0] = 1.0
    answers = postprocess(prediction, ranking, logits, [(32, 40), (24, 48)], [(64, 80), (12, 24)])
    shapes = [answer.masks.shape for answer in answers if answer.masks is not None]
    assert shapes == [(2, 64, 80), (2, 12, 24)]
    for answer in answers:
        assert answer.masks is not None
        assert answer.masks[0].all()
        assert not answer.masks[1].any()


def test_padding_does_not_leak_into_masks() -> None:
    logits = torch.full((1, 16, 16), 100.0)
    logits[:, :10, :12] = -0.1
    assert not resize_masks(logits, size=(10, 12), original_size=(31, 37)).any()


def test_a_score_of_exactly_one_half_is_background() -> None:
    logits = torch.tensor([[[0.0, 1e-8, -1e-8, 1e-6]]])
    masks = resize_masks(logits, size=(1, 4), original_size=(1, 4))
    assert masks.tolist() == [[[False, False, False, True]]]


def test_half_precision_predictions() -> None:
    prediction = _prediction(images=1, queries=3)
    tensors = {name: value for name, value in vars(prediction).items() if value is not None}
    lowered = LayerPrediction(**{name: value.bfloat16() for name, value in tensors.items()})
    logits = torch.randn(1, 3, 16, 16).bfloat16()
    (answer,) = postprocess(lowered, rank(lowered.logits), logits, [(16, 16)], [(1000, 1333)])
    assert answer.boxes.dtype == answer.keypoints.dtype == answer.scores.dtype == torch.float32
    # bfloat16 holds 8 bits: pixels of an image must not be rounded to it.
    fractions = answer.keypoints / torch.tensor([1333, 1000])
    expected = lowered.keypoints[0, answer.queries].float()
    torch.testing.assert_close(fractions, expected, atol=1e-6, rtol=0)


def test_postprocessing_is_the_official_one(golden: Path) -> None:
    files = sorted(golden.glob("postprocess_*.npz"))
    assert files
    for file in files:
        comparisons = CHECKS["postprocess"](dict(np.load(file)))
        failed = [f"{c.item}: {c.max_abs:.1e}" for c in comparisons if not c.passed]
        assert not failed, file.name
