from __future__ import annotations

import pytest
import torch

from uniphd.inference import detect
from uniphd.inference.detect import resize_masks, to_cpu, to_instances, top_k, top_queries
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


def test_top_k_goes_over_queries_and_classes_together() -> None:
    logits = torch.tensor([[[0.0, 3.0], [2.0, 1.0], [-5.0, -4.0]]])
    best = top_k(logits)
    assert best.queries.tolist() == [[0, 1, 1]]
    torch.testing.assert_close(best.scores, torch.tensor([[3.0, 2.0, 1.0]]).sigmoid())


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (5, 5), (None, 3), (100, 6)])
def test_top_k_length(count: int | None, expected: int) -> None:
    assert top_k(torch.rand(2, 3, 2), count).scores.shape == (2, expected)


def test_coordinates_become_pixels_of_each_image() -> None:
    prediction = _prediction(images=2, queries=3)
    best = top_k(prediction.logits, count=2)
    sizes, originals = [(32, 40), (24, 48)], [(64, 80), (120, 240)]
    detections = to_instances(prediction, best, None, sizes, originals)
    for i, (instances, (height, width)) in enumerate(zip(detections, originals, strict=True)):
        assert len(instances) == 2
        assert instances.masks is None
        for t, query in enumerate(best.queries[i].tolist()):
            cx, cy, w, h = prediction.boxes[i, query].tolist()
            corners = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            expected = torch.tensor(corners) * torch.tensor([width, height, width, height])
            torch.testing.assert_close(instances.boxes[t], expected)
            points = prediction.keypoints[i, query] * torch.tensor([width, height])
            torch.testing.assert_close(instances.keypoints[t], points)
            shown = prediction.visibility_logits[i, query].sigmoid()
            torch.testing.assert_close(instances.visibility[t], shown)


def test_masks_have_the_images_sizes_and_the_detections_order() -> None:
    prediction = _prediction(images=2, queries=3)
    best = top_k(prediction.logits, count=2)
    logits = torch.full((2, 2, 32, 48), -1.0)
    logits[:, 0] = 1.0
    detections = to_instances(prediction, best, logits, [(32, 40), (24, 48)], [(64, 80), (12, 24)])
    shapes = [instances.masks.shape for instances in detections if instances.masks is not None]
    assert shapes == [(2, 64, 80), (2, 12, 24)]
    for instances in detections:
        assert instances.masks is not None
        assert instances.masks[0].all()
        assert not instances.masks[1].any()


def test_detections_of_images_of_any_size_come_to_the_cpu_as_they_are() -> None:
    prediction = _prediction(images=2, queries=3)
    best = top_k(prediction.logits, count=2)
    sizes, originals = [(32, 40), (24, 48)], [(64, 80), (12, 24)]
    for logits in (torch.randn(2, 2, 32, 48), None):
        detections = to_instances(prediction, best, logits, sizes, originals)
        for copy, instances in zip(to_cpu(detections), detections, strict=True):
            for name, value in vars(instances).items():
                copied = getattr(copy, name)
                assert copied is None if value is None else torch.equal(copied, value)


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
    (instances,) = to_instances(lowered, top_k(lowered.logits), logits, [(16, 16)], [(1000, 1333)])
    assert (
        instances.boxes.dtype
        == instances.keypoints.dtype
        == instances.scores.dtype
        == torch.float32
    )
    # bfloat16 holds 8 bits: pixels of an image must not be rounded to it.
    fractions = instances.keypoints / torch.tensor([1333, 1000])
    expected = lowered.keypoints[0, instances.queries].float()
    torch.testing.assert_close(fractions, expected, atol=1e-6, rtol=0)


def test_masks_of_large_images_are_resized_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same values, from parts that do not grow with the number of masks."""
    logits = torch.randn(5, 20, 24, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    together = resize_masks(logits, (17, 23), (101, 97))
    sizes = []
    interpolate = detect.F.interpolate
    monkeypatch.setattr(detect, "_PIXELS_AT_ONCE", 2 * 101 * 97 + 1)
    monkeypatch.setattr(
        detect.F, "interpolate", lambda x, **kw: sizes.append(x.shape[1]) or interpolate(x, **kw)
    )
    assert torch.equal(resize_masks(logits, (17, 23), (101, 97)), together)
    assert sizes == [2, 2, 1]
    assert torch.equal(resize_masks(logits, (20, 24), (20, 24)), before.sigmoid() > 0.5)
    assert torch.equal(logits, before)


def test_the_best_queries_are_those_of_top_k() -> None:
    logits = torch.randn(3, 7, 2, generator=torch.Generator().manual_seed(0))
    queries, everything = top_queries(logits, 20), top_k(logits, 14)
    for row in range(3):
        assert queries.queries[row].tolist() == list(
            dict.fromkeys(everything.queries[row].tolist())
        )
        assert queries.scores[row, 0] == everything.scores[row, 0]
