"""From predictions to detections: top-k, masks of the top-k, scaling to the images.

Shapes: B prompts, Q queries, T detections per prompt, K keypoints, H x W the padded canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert

from uniphd.models.outputs import LayerPrediction, Predictions
from uniphd.models.uniphd import UniPHD
from uniphd.structures import Batch, Instances, Size

_PIXELS_AT_ONCE = 2**24  # of resized mask logits: 64 MiB


class TopK(NamedTuple):
    """The best class logits of every prompt, best first.

    Attributes:
        scores: (B, T) in [0, 1].
        queries: (B, T) int64; a query appears once per class logit that is among the best.
    """

    scores: Tensor
    queries: Tensor


class Chosen(NamedTuple):
    """What is predicted of the best queries; coordinates are fractions of the image.

    Attributes:
        scores: (B, T) in [0, 1].
        boxes: (B, T, 4) left, top, right, bottom.
        keypoints: (B, T, K, 2) (x, y).
        visibility: (B, T, K) probability that the keypoint is visible.
        queries: (B, T) int64.
    """

    scores: Tensor
    boxes: Tensor
    keypoints: Tensor
    visibility: Tensor
    queries: Tensor


def detect(model: UniPHD, batch: Batch, count: int) -> list[Instances]:
    """The `count` best detections for every prompt, on the model's device.

    Args:
        model: in evaluation mode, on the batch's device.
        batch: images and prompts; targets are not looked at.
        count: detections per prompt.
    """
    with torch.inference_mode():
        predictions = model(*batch.inputs)
        return detections_of(model, predictions, count, batch.sizes, batch.original_sizes)


def detections_of(
    model: UniPHD,
    predictions: Predictions,
    count: int,
    sizes: Sequence[Size],
    original_sizes: Sequence[Size],
) -> list[Instances]:
    """The `count` best detections of what the network predicted.

    Args:
        model: whose mask head is asked for their masks.
        predictions: for B prompts.
        count: detections per prompt.
        sizes: B times the (h, w) of the prompt's image inside the canvas.
        original_sizes: B times its (h, w) in its file.
    """
    best = top_k(predictions.final.logits, count)
    masks = mask_logits(model, predictions, best)
    return to_instances(predictions.final, best, masks, sizes, original_sizes)


def mask_logits(model: UniPHD, predictions: Predictions, best: TopK) -> Tensor:
    """Mask logits (B, T, H, W) of the chosen queries on the padded canvas."""
    final = predictions.final
    logits: Tensor = model.mask_head(
        predictions.mask_features,
        _select(final.embedding, best.queries),
        _select(final.centre, best.queries),
    )
    return logits


def top_k(logits: Tensor, count: int | None = None) -> TopK:
    """Order queries and classes together by score, as the official evaluation does.

    Args:
        logits: (B, Q, classes).
        count: how many to keep per prompt; as many as there are queries by default.
    """
    classes = logits.shape[-1]
    scores = logits.float().sigmoid().flatten(1)
    count = logits.shape[1] if count is None else count
    best = scores.topk(min(count, scores.shape[1]), dim=1)
    return TopK(best.values, best.indices.div(classes, rounding_mode="floor"))


def top_queries(logits: Tensor, count: int) -> TopK:
    """The best queries by their best class, each once; the first is the first of `top_k`.

    Args:
        logits: (B, Q, classes).
        count: how many to keep per prompt; all where there are fewer.
    """
    scores = logits.float().sigmoid().amax(2)
    return TopK(*scores.topk(min(count, scores.shape[1]), dim=1))


def to_instances(
    prediction: LayerPrediction,
    best: TopK,
    mask_logits: Tensor | None,
    sizes: Sequence[Size],
    original_sizes: Sequence[Size],
) -> list[Instances]:
    """Scale the chosen queries' predictions to the original images.

    Args:
        prediction: the final layer's.
        best: which queries, in which order.
        mask_logits: (B, T, H, W) of these queries on the padded canvas; None without masks.
        sizes: (h, w) of every image inside the canvas.
        original_sizes: (h, w) of every image in its file.
    """
    detections = scale_to_images(choose(prediction, best), original_sizes)
    if mask_logits is None:
        return detections
    return [
        replace(detection, masks=resize_masks(masks, size, original))
        for detection, masks, size, original in zip(
            detections, mask_logits, sizes, original_sizes, strict=True
        )
    ]


def choose(prediction: LayerPrediction, best: TopK) -> Chosen:
    """What a layer predicts of the best queries."""
    return Chosen(
        scores=best.scores,
        boxes=box_convert(_select(prediction.boxes, best.queries).float(), "cxcywh", "xyxy"),
        keypoints=_select(prediction.keypoints, best.queries).float(),
        visibility=_select(prediction.visibility_logits, best.queries).float().sigmoid(),
        queries=best.queries,
    )


def scale_to_images(chosen: Chosen, original_sizes: Sequence[Size]) -> list[Instances]:
    """In pixels of images of these (h, w), without masks."""
    detections = []
    for i, (height, width) in enumerate(original_sizes):
        scale = chosen.boxes.new_tensor([width, height])
        detections.append(
            Instances(
                scores=chosen.scores[i],
                boxes=chosen.boxes[i] * scale.repeat(2),
                keypoints=chosen.keypoints[i] * scale,
                visibility=chosen.visibility[i],
                masks=None,
                queries=chosen.queries[i],
            )
        )
    return detections


def resize_masks(logits: Tensor, size: Size, original_size: Size) -> Tensor:
    """Cut the padding off, resize the logits to the image and threshold: (T, h, w) bool.

    Masks of a large image are made one by one: 32-bit logits of its size are 4 bytes per pixel.

    Args:
        logits: (T, H, W) on the padded canvas.
        size: (h, w) of the image inside the canvas.
        original_size: (h, w) of the image.
    """
    height, width = size
    masks = torch.empty(len(logits), *original_size, dtype=torch.bool, device=logits.device)
    at_once = max(1, _PIXELS_AT_ONCE // (original_size[0] * original_size[1]))
    parts = logits[:, :height, :width].split(at_once)
    for mask, part in zip(masks.split(at_once), parts, strict=True):
        resized = F.interpolate(
            part[None].float(), size=original_size, mode="bilinear", align_corners=False
        )
        # Not `logits > 0`: below 6e-8 the sigmoid rounds to exactly one half, which is background.
        torch.gt(resized[0].sigmoid_(), 0.5, out=mask)
    return masks


def to_cpu(detections: Sequence[Instances]) -> list[Instances]:
    """The detections of a batch on the CPU, with one copy per field instead of one per prompt."""
    if all(detection.scores.device.type == "cpu" for detection in detections):
        return list(detections)
    columns = {f.name: _copied([getattr(d, f.name) for d in detections]) for f in fields(Instances)}
    rows = zip(*columns.values(), strict=True)
    return [Instances(**dict(zip(columns, row, strict=True))) for row in rows]


def _copied(values: list[Any]) -> list[Any]:
    """Tensors of any shapes on the CPU; what is None stays None."""
    if not values or any(value is None for value in values):
        return values
    flat = torch.cat([value.flatten() for value in values]).cpu()
    parts = flat.split([value.numel() for value in values])
    return [part.view(value.shape) for part, value in zip(parts, values, strict=True)]


def _select(values: Tensor, queries: Tensor) -> Tensor:
    """Rows (B, T, ...) of (B, Q, ...)."""
    rows = torch.arange(queries.shape[0], device=queries.device)[:, None]
    return values[rows, queries]
