"""Prompts as users have them: a keyword with plain values, a prompt of any kind, or its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from uniphd.data.images import explain_decoding, open_image, require_file
from uniphd.errors import PromptError
from uniphd.prompts import (
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    ScribblePrompt,
    TextPrompt,
    prompt_from_json,
)
from uniphd.structures import Size

PromptInput: TypeAlias = Prompt | Mapping[str, Any]
"""A prompt, or what `Prompt.to_json` gives with its `kind`."""

_FEWEST_PIXELS = 2  # of an image's longer side: in a smaller one, coordinates may all be below 1


class PromptValues(TypedDict, total=False):
    """The keywords of `single_prompt`."""

    text: str | None
    point: Any
    scribble: Any
    box: Any
    mask: Any


def single_prompt(**values: Any) -> Prompt | None:
    """The prompt of the one keyword that is not None; None where all are.

    Args:
        values: by kind: `text` a string, `point` (x, y), `scribble` ((x, y), ...), `box` (x1, y1,
            x2, y2), `mask` (h, w) of two values, of which 0 is the background.

    Raises:
        PromptError: there are two, or a value cannot be what it is given as.
    """
    given = [kind for kind, value in values.items() if value is not None]
    if len(given) > 1:
        raise PromptError(
            f"There are several prompts: {' and '.join(given)}; give one, or prompts=[...]."
        )
    return next((_FROM_VALUE[kind](values[kind]) for kind in given), None)


def prompt_list(prompts: Sequence[PromptInput]) -> list[Prompt]:
    """Prompts, some of them as JSON values.

    Raises:
        PromptError: it is no list, or one of them is no prompt.
    """
    if not isinstance(prompts, list | tuple):
        raise PromptError(
            f"prompts is a {type(prompts).__name__}; give a list, such as [TextPrompt(...)]."
        )
    return [numbered(index, _as_prompt, prompt) for index, prompt in enumerate(prompts)]


def numbered(index: int, function: Callable[[Any], Prompt], prompt: Any) -> Prompt:
    """`function(prompt)`, whose PromptError says which prompt of a list it is about."""
    try:
        return function(prompt)
    except PromptError as error:
        raise PromptError(f"prompts[{index}]: {error}") from error


def strict_prompt(value: Any, also: str = "") -> Prompt:
    """A sound prompt of a JSON value that has the keys of its kind and no others.

    Args:
        value: see `prompt_from_json`.
        also: what else may stand beside the prompt, for the message.

    Raises:
        PromptError: see `prompt_from_json`; or there is another key.
    """
    prompt = prompt_from_json(value)
    known = {"kind", *prompt.to_json()}
    if unknown := sorted(set(value) - known):
        raise PromptError(
            f"'{unknown[0]:.80}' is no key of a {prompt.kind} prompt; it has "
            f"{', '.join(sorted(known))}{also}."
        )
    return prompt


def fit_prompts(prompts: Sequence[Prompt], size: Size, new: Size) -> list[Prompt]:
    """Prompts in pixels of an image of `size` in those of the resized one; (height, width) each.

    Raises:
        PromptError: one says nothing, is outside of the image, or has fractions for pixels.
    """
    if len(prompts) == 1:
        return [fit_prompt(prompts[0], size, new)]
    return [
        numbered(index, lambda one: fit_prompt(one, size, new), prompt)
        for index, prompt in enumerate(prompts)
    ]


def fit_prompt(prompt: Prompt, size: Size, new: Size) -> Prompt:
    """One of `fit_prompts`."""
    prompt.require_sound()
    prompt.require_inside(size)
    if max(size) > _FEWEST_PIXELS:
        for name, value in vars(prompt).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                _require_pixels(prompt.kind, name, value)
    return prompt.resized(size, new)


def _require_pixels(kind: str, name: str, values: Tensor) -> None:
    """Refuse coordinates that are all within a pixel of the image's corner.

    A click on whole numbers may be there.
    """
    in_corner = bool(((values >= 0) & (values <= 1)).all())
    if in_corner and (values.numel() > 2 or bool((values != values.round()).any())):
        raise PromptError(
            f"A {kind} prompt has {name} {values.tolist()!r:.80}, which look like fractions of the "
            "image; multiply them by its width and height."
        )


def _as_prompt(prompt: Any) -> Prompt:
    return prompt if isinstance(prompt, Prompt) else prompt_from_json(prompt)


def _coordinates(kind: str, value: Any) -> Tensor:
    try:
        values = torch.as_tensor(value, dtype=torch.float32, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise PromptError(f"A {kind} prompt is {value!r:.80}; give numbers of pixels.") from error
    return values.reshape(1) if values.ndim == 0 else values


def mask_prompt(value: Any) -> MaskPrompt:
    """The prompt of a mask that is an array, a tensor or a PIL image.

    Raises:
        PromptError: it has not one value beside 0.
    """
    if isinstance(value, Image.Image) and len(value.getbands()) > 1:
        raise PromptError(
            f"A mask prompt is an image of mode {value.mode}; give one of a single channel, 0 "
            "beside the person."
        )
    try:
        pixels = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        marked = pixels != 0
        values = pixels[marked]
    except (TypeError, ValueError) as error:
        raise PromptError(f"A mask prompt is a {type(value).__name__}; give an array.") from error
    if pixels.dtype.kind not in "buif" or (len(values) and (values != values.flat[0]).any()):
        raise PromptError(
            "A mask prompt has several values beside 0; give True or one number on the person "
            "and 0 elsewhere (probabilities: mask > 0.5)."
        )
    return MaskPrompt(torch.from_numpy(np.ascontiguousarray(marked)))


def read_mask(path: Path) -> MaskPrompt:
    """The prompt of an image file with one channel, 0 beside the person.

    Raises:
        ImageError: the file cannot be read.
        PromptError: it has not one value beside 0.
    """
    with explain_decoding(str(path)):
        require_file(path)
        with open_image(path) as image:
            image.load()
    return mask_prompt(image)


_FROM_VALUE: Mapping[str, Callable[[Any], Prompt]] = {
    "text": TextPrompt,
    "point": lambda value: PointPrompt(_coordinates("point", value)),
    "scribble": lambda value: ScribblePrompt(_coordinates("scribble", value)),
    "box": lambda value: BoxPrompt(_coordinates("box", value)),
    "mask": mask_prompt,
}
