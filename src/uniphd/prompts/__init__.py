"""Prompts: what a user says, draws or clicks to refer to one person. One file per kind."""

from uniphd.prompts.base import Block, Prompt, SpatialBlock, Tokenize, read_part
from uniphd.prompts.batch import PromptBatch, batch_prompts
from uniphd.prompts.box import BoxBlock, BoxPrompt
from uniphd.prompts.kinds import KINDS, find_kind, prompt_from_json
from uniphd.prompts.mask import MaskPrompt
from uniphd.prompts.point import PointPrompt
from uniphd.prompts.points import PointsBlock
from uniphd.prompts.sampler import FixedPrompt, PromptSampler, SamplePrompt
from uniphd.prompts.scribble import ScribblePrompt
from uniphd.prompts.text import TextBlock, TextPrompt

__all__ = [
    "KINDS",
    "Block",
    "BoxBlock",
    "BoxPrompt",
    "FixedPrompt",
    "MaskPrompt",
    "PointPrompt",
    "PointsBlock",
    "Prompt",
    "PromptBatch",
    "PromptSampler",
    "SamplePrompt",
    "ScribblePrompt",
    "SpatialBlock",
    "TextBlock",
    "TextPrompt",
    "Tokenize",
    "batch_prompts",
    "find_kind",
    "prompt_from_json",
    "read_part",
]
