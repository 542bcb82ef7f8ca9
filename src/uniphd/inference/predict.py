"""From a batch to ranked answers: forward, ranking, masks of the ranked, post-processing."""

from __future__ import annotations

import torch

from uniphd.inference.postprocess import Answers, postprocess, rank
from uniphd.models.uniphd import UniPHD
from uniphd.structures import Batch


def predict_answers(model: UniPHD, batch: Batch, top_k: int) -> list[Answers]:
    """The `top_k` best answers to every prompt.

    Args:
        model: in evaluation mode, on the batch's device.
        batch: images and prompts; targets are not looked at.
        top_k: answers per prompt; a query may appear twice, as in the official evaluation.
    """
    with torch.inference_mode():
        predictions = model(*batch.inputs)
        final = predictions.final
        ranking = rank(final.logits, top_k)
        rows = torch.arange(len(batch), device=ranking.queries.device).unsqueeze(1)
        masks = model.mask_head(
            predictions.mask_features,
            final.embedding[rows, ranking.queries],
            final.centre[rows, ranking.queries],
        )
        return postprocess(final, ranking, masks, batch.sizes, batch.original_sizes)
