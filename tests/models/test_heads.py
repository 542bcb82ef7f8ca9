"""Prediction heads against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from uniphd.models.heads import PredictionHead
from uniphd.models.layers import logit as logits_of


def logit(x: float) -> float:
    """With the official release's bound of a thousandth."""
    return math.log(max(x, 1e-3) / max(1 - x, 1e-3))


@pytest.fixture
def head() -> PredictionHead:
    torch.manual_seed(0)
    module = PredictionHead(hidden_dim=8, num_classes=2)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


@torch.no_grad()
def test_boxes_and_keypoints_refine_references(head: PredictionHead) -> None:
    groups, reference = torch.randn(1, 2, 18, 8), torch.rand(1, 2, 18, 2)
    reference[0, 0, 0] = torch.tensor([0.0, 1.0])  # at the border, and nearly there
    reference[0, 1, 0] = torch.tensor([0.0004, 0.9997])
    reference[0, 0, 3] = torch.tensor([1e-4, 1.0])
    offsets = head.keypoint_offsets(groups)
    prediction = head(groups, reference, logits_of(reference), offsets)
    for query in range(2):
        raw = head.box_mlp(groups[0, query, 0]).tolist()
        x, y = reference[0, query, 0].tolist()
        box = torch.tensor([raw[0] + logit(x), raw[1] + logit(y), raw[2], raw[3]]).sigmoid()
        torch.testing.assert_close(prediction.boxes[0, query], box)
        for keypoint in range(17):
            offset = head.keypoint_mlp(groups[0, query, 1 + keypoint])
            torch.testing.assert_close(offsets[0, query, keypoint], offset)
            start = torch.tensor([logit(v) for v in reference[0, query, 1 + keypoint].tolist()])
            torch.testing.assert_close(
                prediction.keypoints[0, query, keypoint], (start + offset).sigmoid()
            )
        visibility = head.visibility(groups[0, query, 1:])[:, 0]
        torch.testing.assert_close(prediction.visibility_logits[0, query], visibility)
    torch.testing.assert_close(prediction.logits, head.classifier(groups[:, :, 0]))
    assert torch.equal(prediction.embedding, groups[:, :, 0])
    assert torch.equal(prediction.centre, reference[:, :, 0])


@torch.no_grad()
def test_a_new_head_leaves_references_where_they_are() -> None:
    """Every class has a probability of a hundredth (RetinaNet); boxes cover half of the image."""
    head = PredictionHead(hidden_dim=8, num_classes=2)
    groups, reference = torch.randn(1, 3, 18, 8), torch.rand(1, 3, 18, 2) * 0.9 + 0.05
    start, offsets = logits_of(reference), head.keypoint_offsets(groups)
    prediction = head(groups, reference, start, offsets)
    torch.testing.assert_close(prediction.keypoints, reference[:, :, 1:])
    torch.testing.assert_close(prediction.boxes[..., :2], reference[:, :, 0])
    torch.testing.assert_close(prediction.boxes[..., 2:], torch.full((1, 3, 2), 0.5))
    torch.testing.assert_close(head.classifier.bias.sigmoid(), torch.full((2,), 0.01))
