"""Detections against the official post-processing: order, boxes, keypoints and masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from parity.comparison import Comparison
from uniphd.inference.detect import to_instances, top_k
from uniphd.models.outputs import LayerPrediction
from uniphd.structures import Instances

Arrays = Mapping[str, np.ndarray[Any, Any]]

_PIXELS = 1e-4  # float32 coordinates of a few hundred pixels


def check_postprocess(npz: Arrays) -> list[Comparison]:
    """Every detection of every image, and the best one's keypoints."""
    logits, boxes, keypoints, masks = (
        torch.from_numpy(npz[f"pred_{name}"]) for name in ("logits", "boxes", "keypoints", "masks")
    )
    unused = logits.new_zeros((*logits.shape[:2], 2))
    prediction = LayerPrediction(
        logits=logits,
        boxes=boxes,
        keypoints=keypoints[..., :34].unflatten(-1, (17, 2)),
        visibility_logits=keypoints[..., 34:],
        embedding=unused,
        centre=unused,
    )
    chosen = top_k(logits)
    mask_logits = torch.stack([m[q] for m, q in zip(masks, chosen.queries, strict=True)])
    sizes, original_sizes = (
        [(int(h), int(w)) for h, w in npz[name]] for name in ("size", "orig_size")
    )
    detections = to_instances(prediction, chosen, mask_logits, sizes, original_sizes)
    best = torch.stack([instances.keypoints[0].flatten() for instances in detections])
    official_best = np.stack([_coordinates(row) for row in npz["out_best_keypoints"]])
    return [
        Comparison("query order", chosen.queries, npz["out_query_idx"], 0.0),
        Comparison("best keypoints", best, official_best, _PIXELS),
        *(c for i, found in enumerate(detections) for c in _compare_instances(npz, i, found)),
    ]


def _compare_instances(npz: Arrays, image: int, instances: Instances) -> list[Comparison]:
    def official(name: str) -> np.ndarray[Any, Any]:
        return npz[f"out_{name}_{image}"]

    masks = instances.masks if instances.masks is not None else torch.empty(0)
    keypoints = instances.keypoints.flatten(1)
    return [
        Comparison(f"scores {image}", instances.scores, official("scores"), 1e-7),
        Comparison(f"boxes {image}", instances.boxes, official("boxes"), _PIXELS),
        Comparison(f"keypoints {image}", keypoints, _coordinates(official("keypoints")), _PIXELS),
        Comparison(f"masks {image}", masks, official("masks"), 0.0),
        Comparison(f"run lengths {image}", _run_lengths(masks), official("rle_counts"), 0.0),
    ]


def _coordinates(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """x, y of the official result layout x1 y1 c1 ... x17 y17 c17, as 34 numbers."""
    triples = numbers.reshape(*numbers.shape[:-1], 17, 3)[..., :2]
    return triples.reshape(*numbers.shape[:-1], 34)


def _run_lengths(masks: Tensor) -> list[str]:
    columns = np.asfortranarray(masks.permute(1, 2, 0).byte().numpy())
    return [runs["counts"].decode("ascii") for runs in coco_mask.encode(columns)]


CHECKS: dict[str, Callable[[Arrays], list[Comparison]]] = {"postprocess": check_postprocess}
