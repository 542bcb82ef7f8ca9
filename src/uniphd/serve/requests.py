"""The JSON of `POST /predict`, read and checked; `openapi.json` says the same to clients."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from torch import Tensor

from uniphd.errors import PromptError
from uniphd.inference.prompt_input import numbered, strict_prompt
from uniphd.prompts import MaskPrompt, Prompt
from uniphd.serve.limits import Limits, RequestError

_KEYS = ("image", "image_id", "prompts", "top_k")


@dataclass(frozen=True)
class PredictRequest:
    """Prompts for one image, which is in the request or was sent before.

    Attributes:
        image: content of the image's file; None where `image_id` names it.
        image_id: of an image that was sent before; None where it is in the request.
        prompts: JSON values of prompts, at least one; see `read_prompts`.
        top_k: candidates per prompt.
    """

    image: bytes | None
    image_id: str | None
    prompts: list[Any]
    top_k: int


def read_predict_request(body: bytes, limits: Limits) -> PredictRequest:
    """Read a request.

    Raises:
        RequestError: it is no JSON, has unknown or missing keys, or asks for too much.
    """
    value = _read_object(body)
    if unknown := sorted(set(value) - set(_KEYS)):
        raise _bad(f"'{unknown[0]:.80}' is no key of a request; it has {', '.join(_KEYS)}.")
    image, image_id = value.get("image"), value.get("image_id")
    if (image is None) == (image_id is None):
        raise _bad("Give either image, a file in base64, or image_id, of an image sent before.")
    if not isinstance(image_id, str | None):
        raise _bad(f"image_id is {image_id!r:.80}; give the id of an image sent before.")
    prompts, top_k = value.get("prompts"), value.get("top_k", 1)
    if not isinstance(prompts, list) or not 0 < len(prompts) <= limits.prompts:
        raise _bad(f"prompts is {prompts!r:.80}; give a list of 1 to {limits.prompts} prompts.")
    if type(top_k) is not int or not 0 < top_k <= limits.candidates:
        raise _bad(f"top_k is {top_k!r:.80}; give an integer from 1 to {limits.candidates}.")
    return PredictRequest(_image_bytes(image, limits), image_id, prompts, top_k)


def read_prompts(values: list[Any], width: int, height: int, limits: Limits) -> list[Prompt]:
    """Sound prompts for an image of `width` x `height` pixels.

    Raises:
        PromptError: one is of no kind, cannot be read, or is too long.
    """

    def read(value: Any) -> Prompt:
        _require_size(value, width, height)
        prompt = strict_prompt(value)
        _require_short(prompt, limits)
        return prompt

    return [numbered(index, read, value) for index, value in enumerate(values)]


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:  # also what is not UTF-8
        raise _bad(f"The request is no JSON ({error!s:.200}).") from error
    if not isinstance(value, dict):
        raise _bad(f"The request is {value!r:.80}; give a JSON object.")
    return value


def _image_bytes(image: Any, limits: Limits) -> bytes | None:
    if image is None:
        return None
    try:
        if not isinstance(image, str):
            raise TypeError("it is no string")
        content = base64.b64decode(image, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise _bad(f"image is not base64 of a file ({error!s:.200}).") from error
    if len(content) > limits.upload:
        raise too_large("An image", limits.upload)
    return content


def _require_size(value: Any, width: int, height: int) -> None:
    """Refuse a mask of another size, whose few bytes may stand for any number of pixels."""
    is_mask = isinstance(value, dict) and value.get("kind") == MaskPrompt.kind
    size = value.get("size") if is_mask else [height, width]
    if size != [height, width]:
        raise PromptError(
            f"A mask prompt has the size {size!r:.80} and its image has {[height, width]}, height "
            "and width; resize it to the image."
        )


def _require_short(prompt: Prompt, limits: Limits) -> None:
    for value in vars(prompt).values():
        if isinstance(value, str) and len(value) > limits.characters:
            raise PromptError(
                f"A text prompt has {len(value)} characters; give at most {limits.characters}."
            )
        is_points = isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 2
        if is_points and len(value) > limits.points:
            raise PromptError(
                f"A {prompt.kind} prompt has {len(value)} points; give at most {limits.points}."
            )


def too_large(what: str, limit: int) -> RequestError:
    """The error for more bytes than the limit."""
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"{what} has more than {limit / 2**20:.1f} MiB; send a smaller one.",
    )


def _bad(sentence: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, sentence)
