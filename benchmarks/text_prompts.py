"""Text prompts: which part of a network picks the wrong person.

    python benchmarks/text_prompts.py synthetic_cpu data=synthetic 'data.size=[96,96]' \
        data.scene_seed=1 data.split=unseen data.val_scenes=1500

Takes a checkpoint with model=uniphd_plus and arguments of uniphd-eval. Only images with two or more
annotated people count. A query picks the person whom its pose is most similar to; the grounding
picks the person whose annotated mask has the highest score, the mean of two levels. For
data=synthetic, whose images are neither resized nor padded. `--matching 'hat$'` counts only the
texts that match a regular expression.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter

import numpy as np
import numpy.typing as npt
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from uniphd.checkpoints.reading import load_model_and_config
from uniphd.config.compose import build, config_dir, fill_resolvers
from uniphd.data.loaders import ReferringDataModule
from uniphd.losses.auxiliary.grounding import occupancy
from uniphd.metrics.oks import pairwise_oks
from uniphd.metrics.referring import AnnotatedImage, group_by_image
from uniphd.models.build import build_tokenizer
from uniphd.models.outputs import (
    GroundingPrediction,
    LayerPrediction,
    Predictions,
    SelectionPrediction,
)
from uniphd.models.rescoring import GroundingRescoring, log_sum_exp_pooling
from uniphd.models.uniphd import UniPHD
from uniphd.structures import Batch

_LEVELS = 2  # strides 8 and 16


def main() -> None:
    """Evaluate and print one share per part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ckpt", help="a model folder or a checkpoint")
    parser.add_argument("overrides", nargs="*", help="as for uniphd-eval")
    parser.add_argument(
        "--matching", type=re.compile, default="", help="regular expression that texts must match"
    )
    options = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    model, data = prepare(options.ckpt, options.overrides)
    images = group_by_image(data.val_instances, data.val_distractors)
    places = {
        annotation.image_id: (image, int(image.referred[number]))
        for image in images
        if len(image.people) > 1
        for number, annotation in enumerate(image.annotations)
        if re.search(options.matching, annotation.caption)
    }
    right: Counter[str] = Counter()
    for batch in data.val_dataloader()[0]:
        with torch.inference_mode():
            predictions = model(*batch.inputs)
            seen = over_own_masks(model, predictions)
        for row, image_id in enumerate(batch.image_ids):
            if image_id in places:
                right.update(picks(batch, predictions, seen, row, *places[image_id]))
    print(f"{len(places)} texts")
    for name, count in right.items():
        print(f"{100 * count / len(places):6.1f} %  {name}")


def prepare(ckpt: str, overrides: list[str]) -> tuple[UniPHD, ReferringDataModule]:
    """The network and the text prompts."""
    fill_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        fixed = [f"ckpt={ckpt}", "paths.output_dir=unused", "prompt=text"]
        config = compose("eval", [*overrides, *fixed])
    model, described = load_model_and_config(ckpt)
    config.keypoints = described.keypoints
    config.data.eval_transform.update(described.preprocessing)
    data: ReferringDataModule = build(config.data, tokenize=build_tokenizer(described.tokenizer))
    data.setup("validate")
    return model, data


def picks(
    batch: Batch,
    predictions: Predictions,
    seen: Tensor,
    row: int,
    image: AnnotatedImage,
    referred: int,
) -> dict[str, bool]:
    """Whether each part picks the referred person."""
    grounding, final = predictions.tokens.grounding, predictions.final
    assert grounding is not None, "the network has no grounding: it is not model=uniphd_plus"
    height, width = batch.original_sizes[row]
    scale = torch.tensor([width, height])
    selected = nearest(predictions.selection.keypoints[row] * scale, image)
    answered = nearest(final.keypoints[row] * scale, image)
    most_seen = int(seen[row].argmax())
    chosen = {
        "the selected token of the highest class": selected[best(predictions.selection, row)],
        "the query with the highest grounding over its own mask": answered[most_seen],
        "the best query": answered[best(final, row)],
    }
    return {
        "grounding over everybody's mask": by_mask(grounding, row, image) == referred,
        "one of the queries": bool((answered == referred).any()),
        **{name: int(person) == referred for name, person in chosen.items()},
    }


def over_own_masks(model: UniPHD, predictions: Predictions) -> Tensor:
    """The score of every query's own mask, less the highest of its prompt, (B, Q)."""
    assert predictions.tokens.grounding is not None
    final = predictions.final
    coarse = model.mask_head.coarse(predictions.mask_features, final.embedding, final.centre)
    seen: Tensor = GroundingRescoring(1.0, range(_LEVELS))(
        predictions.tokens.grounding, model.mask_head.occupancy(coarse)
    )
    return seen


def best(prediction: LayerPrediction | SelectionPrediction, row: int) -> int:
    """The query with the highest class logit."""
    return int(prediction.logits[row].amax(-1).argmax())


def by_mask(grounding: GroundingPrediction, row: int, image: AnnotatedImage) -> int:
    """The person whose mask has the highest score."""
    masks = torch.zeros(len(image.people), *grounding.canvas, dtype=torch.bool)
    for number, person in enumerate(image.people):
        mask = torch.from_numpy(person.mask())
        masks[number, : mask.shape[0], : mask.shape[1]] = mask.bool()
    lengths = [height * width for height, width in grounding.shapes]
    scores = torch.zeros(len(masks))
    for shape, logits in zip(
        grounding.shapes[:_LEVELS], grounding.logits[row].split(lengths), strict=False
    ):
        occupied = occupancy(masks, shape)
        scores += log_sum_exp_pooling(logits, occupied)
    return int(scores.argmax())


def nearest(keypoints: Tensor, image: AnnotatedImage) -> npt.NDArray[np.intp]:
    """(Q,) the person most similar to every pose (Q, K, 2) in pixels."""
    people = image.people
    similarity = pairwise_oks(
        keypoints.numpy(),
        np.stack([person.keypoints for person in people]),
        np.array([person.area for person in people]),
        people[0].schema.sigmas,
    )
    chosen: npt.NDArray[np.intp] = similarity.argmax(axis=1)
    return chosen


if __name__ == "__main__":
    main()
