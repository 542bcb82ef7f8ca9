"""Detections as an evaluation keeps them: ranked, on the CPU, masks as run lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from uniphd.data.masks import encode_mask
from uniphd.metrics.coco import CocoResult
from uniphd.structures import PERSON, Instances, Size

MAX_DETECTIONS = 20
"""Detections per image id that AP looks at (COCO's limit for keypoints)."""


@dataclass(frozen=True)
class StoredDetections:
    """Detections for one prompt, best first, small enough to send to the other processes.

    Attributes:
        scores: (T,).
        boxes: (T, 4) left, top, width, height.
        keypoints: (T, K, 3) x, y and the probability of being visible.
        masks: run lengths per detection, or None without masks.
    """

    scores: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]
    keypoints: npt.NDArray[np.float64]
    masks: tuple[str, ...] | None

    def __len__(self) -> int:
        """T."""
        return len(self.scores)

    def coco_result(self, task: str, place: int, image_id: int, size: Size) -> CocoResult:
        """An entry of a COCO results file.

        Args:
            task: "keypoints", "bbox" or, where there are masks, "segm".
            place: of the detection.
            image_id: of the entry.
            size: (height, width) of the image.
        """
        score = float(self.scores[place])
        name, value = _VALUES[task](self, place, size)
        return {"image_id": image_id, "category_id": PERSON, "score": score, name: value}


def _keypoints(stored: StoredDetections, place: int, size: Size) -> tuple[str, Any]:
    # COCO ignores the third number of a keypoint in results; we give the probability.
    return "keypoints", stored.keypoints[place].flatten().tolist()


def _box(stored: StoredDetections, place: int, size: Size) -> tuple[str, Any]:
    return "bbox", stored.boxes[place].tolist()


def _mask(stored: StoredDetections, place: int, size: Size) -> tuple[str, Any]:
    assert stored.masks is not None
    return "segmentation", {"size": list(size), "counts": stored.masks[place]}


_VALUES: Mapping[str, Callable[[StoredDetections, int, Size], tuple[str, Any]]] = {
    "keypoints": _keypoints,
    "segm": _mask,
    "bbox": _box,
}


def store_detections(instances: Instances) -> StoredDetections:
    """The best 20 of a prompt's detections; equal scores keep their order.

    Args:
        instances: on the CPU.
    """
    order = instances.scores.argsort(descending=True, stable=True)[:MAX_DETECTIONS]
    corners = _to_numpy(instances.boxes[order])
    points = _to_numpy(instances.keypoints[order])
    visibility = _to_numpy(instances.visibility[order])
    return StoredDetections(
        scores=_to_numpy(instances.scores[order]),
        boxes=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        keypoints=np.concatenate([points, visibility[..., None]], axis=2),
        masks=None if instances.masks is None else _encode(instances.masks, order),
    )


def _to_numpy(values: Tensor) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = values.detach().double().numpy()
    return array


def _encode(masks: Tensor, order: Tensor) -> tuple[str, ...]:
    """COCO run lengths of the chosen ones of masks (T, h, w), one by one for large images."""
    return tuple(encode_mask(masks[i].numpy()) for i in order.tolist())
