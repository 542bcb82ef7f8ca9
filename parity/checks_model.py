"""Whole network: text, point and scribble prompts end to end, all layers and masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from parity.comparison import Comparison
from uniphd.models.outputs import Predictions
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import Block, PointsBlock, PromptBatch, TextBlock

Arrays = Mapping[str, np.ndarray]

OUTPUTS = 3e-5  # logits, boxes, keypoints and visibilities: the golden folder's own tolerance
MASKS = 2e-4  # mask logits
STATES = 1e-4  # hidden states, which are of order 1 to 10


def check_end_to_end(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """Final outputs, masks of all queries and the heads of all layers, those that are stored."""
    hidden: list[Tensor] = []
    hook = network.decoder.layers[-1].register_forward_hook(
        lambda module, inputs, output: hidden.append(output)
    )
    predictions, masks = _forward(arrays, network)
    hook.remove()
    final, layers = predictions.final, predictions.layers
    outputs = {
        "out_pred_logits": final.logits,
        "out_pred_boxes": final.boxes,
        "out_pred_keypoints": _official_keypoints(final.keypoints),
        "out_pred_keypoints_visi": final.visibility_logits,
        "layer_logits": torch.stack([layer.logits for layer in layers]),
        "layer_boxes": torch.stack([layer.boxes for layer in layers]),
        "layer_keypoints": torch.stack([_official_keypoints(layer.keypoints) for layer in layers]),
        "layer_keypoints_visi": torch.stack([layer.visibility_logits for layer in layers]),
    }
    large = {"out_pred_masks_sub8": (masks[:, :, 4::8, 4::8], MASKS)}
    if "out_mask_query_idx" in arrays:
        rows = torch.arange(len(masks)).unsqueeze(1)
        top = masks[rows, torch.from_numpy(arrays["out_mask_query_idx"])]
        large["out_pred_masks_top3"] = (top, MASKS)
    if "dbg_hs_last" in arrays:
        large["dbg_hs_last"] = (hidden[0], STATES)
    compared = {name: (value, OUTPUTS) for name, value in outputs.items()} | large
    return [
        Comparison(name, actual, arrays[name], atol) for name, (actual, atol) in compared.items()
    ]


def _forward(arrays: Arrays, network: UniPHD) -> tuple[Predictions, Tensor]:
    """Predictions and the mask logits of all queries."""
    sizes = tuple((int(h), int(w)) for h, w in arrays["size"])
    height, width = (int(length) for length in arrays["padded_hw"])
    images = torch.zeros(len(sizes), 3, height, width)
    padding_mask = torch.ones(len(sizes), height, width, dtype=torch.bool)
    for index, (h, w) in enumerate(sizes):
        images[index, :, :h, :w] = torch.from_numpy(arrays[f"image_{index}"])
        padding_mask[index, :h, :w] = False
    with torch.inference_mode():
        predictions = network(images, padding_mask, sizes, _prompts(arrays))
        final = predictions.final
        masks = network.mask_head(predictions.mask_features, final.embedding, final.centre)
    return predictions, masks


def _prompts(arrays: Arrays) -> PromptBatch:
    """The stored prompts: token ids, or pixels."""
    kind = str(arrays["prompt"])
    batch = len(arrays["size"])
    block: Block
    if kind == "text":
        names = ("input_ids", "attention_mask")
        block = TextBlock(*(torch.from_numpy(arrays[name]) for name in names))
    else:
        points = torch.from_numpy(arrays[kind])
        points = points.unsqueeze(1) if kind == "point" else points
        block = PointsBlock(points, torch.zeros(points.shape[:2], dtype=torch.bool))
    return PromptBatch((kind,) * batch, {kind: block})


def _official_keypoints(keypoints: Tensor) -> Tensor:
    """(..., 17, 2) in the official layout: 34 coordinates, then 17 constants sigmoid(1)."""
    constants = torch.ones_like(keypoints[..., 0]).sigmoid()
    return torch.cat([keypoints.flatten(-2), constants], dim=-1)


CHECKS = {"end_to_end_text": check_end_to_end, "end_to_end_point": check_end_to_end,
          "end_to_end_scribble": check_end_to_end}  # fmt: skip
