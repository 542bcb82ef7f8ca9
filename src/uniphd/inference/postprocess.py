"""From the network's numbers to answers in the image's own pixels.

Shapes: B images, Q queries, T answers per image, K = 17 keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert

from uniphd.models.outputs import LayerPrediction
from uniphd.structures import PERSON, Size


@dataclass(frozen=True)
class Ranking:
    """The best answers of every image, best first.

    Attributes:
        scores: (B, T) in [0, 1].
        labels: (B, T) int64, always `PERSON`, whichever class logit the score came from (official).
        queries: (B, T) int64; a query appears once per class logit that is among the best.
    """

    scores: Tensor
    labels: Tensor
    queries: Tensor


@dataclass(frozen=True)
class Answers:
    """The answers for one image, best first, in pixels of the image as it is in its file.

    Attributes:
        scores: (T,) in [0, 1].
        labels: (T,) int64.
        queries: (T,) int64 which query each answer is.
        boxes: (T, 4) left, top, right, bottom.
        keypoints: (T, K, 2) (x, y).
        visibility: (T, K) probability that the keypoint is visible.
        masks: (T, H, W) bool; None from a model without mask head.
    """

    scores: Tensor
    labels: Tensor
    queries: Tensor
    boxes: Tensor
    keypoints: Tensor
    visibility: Tensor
    masks: Tensor | None

    def __len__(self) -> int:
        return len(self.scores)


def rank(logits: Tensor, top: int | None = None) -> Ranking:
    """Order queries and classes together by score.

    Args:
        logits: (B, Q, classes).
        top: how many answers to keep per image; as many as there are queries by default.
    """
    classes = logits.shape[-1]
    scores = logits.float().sigmoid().flatten(1)
    count = logits.shape[1] if top is None else top
    best = scores.topk(min(count, scores.shape[1]), dim=1)
    return Ranking(
        scores=best.values,
        labels=torch.full_like(best.indices, PERSON),
        queries=best.indices.div(classes, rounding_mode="floor"),
    )


def postprocess(
    prediction: LayerPrediction,
    ranking: Ranking,
    mask_logits: Tensor | None,
    sizes: Sequence[Size],
    original_sizes: Sequence[Size],
) -> list[Answers]:
    """Scale the ranked queries' predictions to the images.

    Args:
        prediction: the final layer's.
        ranking: which queries, in which order.
        mask_logits: (B, T, H, W) of the ranked queries on the padded canvas; None without masks.
        sizes: (h, w) of every image inside the canvas.
        original_sizes: (h, w) of every image.
    """
    queries = ranking.queries
    boxes = box_convert(_select(prediction.boxes, queries), "cxcywh", "xyxy")
    keypoints = _select(prediction.keypoints, queries)
    visibility = _select(prediction.visibility_logits, queries).sigmoid()
    answers = []
    for i, (size, original) in enumerate(zip(sizes, original_sizes, strict=True)):
        height, width = original
        scale = boxes.new_tensor([width, height])
        answers.append(
            Answers(
                scores=ranking.scores[i],
                labels=ranking.labels[i],
                queries=queries[i],
                boxes=boxes[i] * scale.repeat(2),
                keypoints=keypoints[i] * scale,
                visibility=visibility[i],
                masks=None if mask_logits is None else resize_masks(mask_logits[i], size, original),
            )
        )
    return answers


def resize_masks(logits: Tensor, size: Size, original_size: Size) -> Tensor:
    """Cut the padding off, resize the logits to the image and threshold: (T, H, W) bool.

    Args:
        logits: (T, H, W) on the padded canvas.
        size: (h, w) of the image inside the canvas.
        original_size: (h, w) of the image.
    """
    height, width = size
    image = logits[None, :, :height, :width].float()
    resized = F.interpolate(image, size=original_size, mode="bilinear", align_corners=False)[0]
    # Not `logits > 0`: below 6e-8 the sigmoid rounds to exactly one half, which is background.
    return resized.sigmoid() > 0.5


def _select(values: Tensor, queries: Tensor) -> Tensor:
    """Rows (B, T, ...) of (B, Q, ...), in float32."""
    rows = torch.arange(len(queries), device=queries.device)[:, None]
    return values[rows, queries].float()
