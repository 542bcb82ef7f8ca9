"""The outputs of the network side by side, so that matching and losses need no loop over layers.

Shapes: O supervised outputs, L of them decoder layers, B images, Q queries, K keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uniphd.losses.precision import at_least_float32
from uniphd.models.outputs import Predictions


@dataclass(frozen=True)
class StackedPredictions:
    """Outputs in one order: the final layer, the layers before it, the encoder's selection.

    What only layers have is shorter than O, so that its entries are those of the first outputs.

    Attributes:
        names: O names: "final", "layer0" and so on, "selection".
        logits: (O, B, Q, 2) class logits.
        keypoints: (O, B, Q, K, 2).
        boxes: (L, B, Q, 4).
        visibility_logits: (L, B, Q, K).
    """

    names: tuple[str, ...]
    logits: Tensor
    keypoints: Tensor
    boxes: Tensor
    visibility_logits: Tensor


def stack_predictions(predictions: Predictions) -> StackedPredictions:
    """Everything that is supervised but the masks, in float32 at least."""
    *earlier, final = predictions.layers
    layers, selection = [final, *earlier], predictions.selection
    return StackedPredictions(
        names=("final", *(f"layer{i}" for i in range(len(earlier))), "selection"),
        logits=_stack([layer.logits for layer in layers] + [selection.logits]),
        keypoints=_stack([layer.keypoints for layer in layers] + [selection.keypoints]),
        boxes=_stack([layer.boxes for layer in layers]),
        visibility_logits=_stack([layer.visibility_logits for layer in layers]),
    )


def _stack(values: list[Tensor]) -> Tensor:
    return at_least_float32(torch.stack(values))
