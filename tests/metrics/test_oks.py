from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from uniphd.keypoints import COCO17, SCHEMAS, KeypointSchema
from uniphd.metrics.oks import pairwise_oks


def _coco_oks(
    predicted: np.ndarray, target: np.ndarray, areas: np.ndarray, sigmas: Sequence[float]
) -> np.ndarray:
    truth, found = COCO(), COCO()
    entry = {"image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 1, 1]}
    truth.dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": 1}],
        "annotations": [
            {**entry, "id": i + 1, "keypoints": t.flatten().tolist(), "num_keypoints": 1, "area": a}
            for i, (t, a) in enumerate(zip(target, areas.tolist(), strict=True))
        ],
    }
    found.dataset = {
        **truth.dataset,
        "annotations": [
            # Falling scores: COCO orders the rows by them.
            {**entry, "id": i + 1, "keypoints": p.flatten().tolist(), "score": 1 / (i + 1)}
            for i, p in enumerate(predicted)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation._prepare()
    return np.asarray(evaluation.computeOks(1, 1))


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize("seed", range(5))
def test_it_is_cocos(seed: int, schema: KeypointSchema) -> None:
    rng = np.random.default_rng(seed)
    target = rng.uniform(0, 200, (4, len(schema), 3))
    target[..., 2] = rng.choice([0, 0, 1, 2], (4, len(schema)))
    target[:, seed, 2] = 2  # at least one is labelled
    predicted = np.concatenate([target, target + rng.normal(0, 12, target.shape)])
    areas = rng.uniform(300, 20000, 4)
    ours = pairwise_oks(predicted, target, areas, schema.sigmas)
    assert ours.shape == (8, 4)
    assert 0.05 < ours[4:].diagonal().mean() < 0.99
    np.testing.assert_allclose(
        ours, _coco_oks(predicted, target, areas, schema.sigmas), rtol=0, atol=1e-14
    )


def test_only_labelled_keypoints_count() -> None:
    target = np.zeros((1, 17, 3))
    target[0, [0, 5], 2] = (1, 2)
    predicted = np.full((1, 17, 2), 1e4)
    predicted[0, 0] = 0
    assert pairwise_oks(
        predicted, target, np.array([500.0]), COCO17.sigmas
    ).item() == pytest.approx(0.5)


def test_nothing_is_similar_to_nan_or_to_nobody() -> None:
    target = np.zeros((2, 17, 3))
    target[0, :, 2] = 2
    predicted = np.zeros((2, 17, 2))
    predicted[1] = np.nan
    similarity = pairwise_oks(predicted, target, np.array([500.0, 500.0]), COCO17.sigmas)
    np.testing.assert_array_equal(similarity, [[1, 0], [0, 0]])
