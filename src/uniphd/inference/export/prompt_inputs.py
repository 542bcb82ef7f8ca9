"""Prompts of any kinds as the decoder's inputs.

Shapes: B prompts, N prompts of a kind, T tokens, P points, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from uniphd.errors import PromptError
from uniphd.inference.export.graphs import Tensors
from uniphd.prompts import PromptBatch, TextBlock
from uniphd.prompts.base import Block
from uniphd.prompts.box import BoxBlock
from uniphd.prompts.points import PointsBlock

EncodeTexts: TypeAlias = Callable[[Tensors], Tensors]


def prompt_inputs(prompts: PromptBatch, channels: int, encode_texts: EncodeTexts) -> Tensors:
    """What the decoder is given of prompts; a prompt has one kind and padding for the others.

    Args:
        prompts: B of them.
        channels: C.
        encode_texts: the text encoder.

    Raises:
        PromptError: a kind that the graphs do not read.
    """
    count = len(prompts)
    inputs = {
        "text_tokens": torch.zeros(count, 1, channels),
        "text_padding": torch.ones(count, 1, dtype=torch.bool),
        "text_embedding": torch.zeros(count, channels),
        "points": torch.zeros(count, 1, 2),
        "points_padding": torch.ones(count, 1, dtype=torch.bool),
        "box": torch.zeros(count, 4),
        "box_padding": torch.ones(count, dtype=torch.bool),
    }
    for kind, block in prompts.blocks.items():
        for name, values in _inputs_of(block, encode_texts).items():
            inputs[name] = _put(inputs[name], prompts.rows(kind), values)
    return inputs


@singledispatch
def _inputs_of(block: Block, encode_texts: EncodeTexts) -> Tensors:
    raise PromptError(
        f"An exported network does not read a {type(block).__name__}; give a text, a point, a "
        "scribble, a box or a mask."
    )


@_inputs_of.register
def _(block: TextBlock, encode_texts: EncodeTexts) -> Tensors:
    texts = {"input_ids": block.input_ids, "attention_mask": block.attention_mask}
    return {**encode_texts(texts), "text_padding": block.attention_mask == 0}


@_inputs_of.register
def _(block: PointsBlock, encode_texts: EncodeTexts) -> Tensors:
    return {"points": block.points, "points_padding": block.padding}


@_inputs_of.register
def _(block: BoxBlock, encode_texts: EncodeTexts) -> Tensors:
    return {"box": block.boxes, "box_padding": torch.zeros(len(block.boxes), dtype=torch.bool)}


def _put(all_rows: Tensor, rows: Sequence[int], values: Tensor) -> Tensor:
    """Values (N, T, ...) in place of these rows of (B, T', ...), both padded to the longer."""
    if all_rows.ndim > 1 and all_rows.shape[1] != values.shape[1]:
        length = max(all_rows.shape[1], values.shape[1])
        all_rows, values = (_lengthen(one, length) for one in (all_rows, values))
    return all_rows.index_put((torch.tensor(rows),), values)


def _lengthen(values: Tensor, length: int) -> Tensor:
    """Pad axis 1: what is bool says what is padding, so that it is padded with True."""
    border = (0, 0) * (values.ndim - 2) + (0, length - values.shape[1])
    return F.pad(values, border, value=values.dtype == torch.bool)
