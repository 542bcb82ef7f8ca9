"""The kinds of prompt by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from uniphd.errors import ConfigError, PromptError
from uniphd.prompts.base import Prompt
from uniphd.prompts.box import BoxPrompt
from uniphd.prompts.mask import MaskPrompt
from uniphd.prompts.point import PointPrompt
from uniphd.prompts.scribble import ScribblePrompt
from uniphd.prompts.text import TextPrompt

KINDS: Mapping[str, type[Prompt]] = {
    kind.kind: kind for kind in (TextPrompt, PointPrompt, ScribblePrompt, BoxPrompt, MaskPrompt)
}
"""What configurations and JSON may call by a short name, in the order of tables and images."""


def find_kind(name: str) -> type[Prompt]:
    """A kind of prompt by its name, or one of your own by the dotted path of its class.

    Raises:
        ConfigError: there is none.
    """
    if name in KINDS:
        return KINDS[name]
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        found = None
    if not (isinstance(found, type) and issubclass(found, Prompt)):
        raise ConfigError(
            f"{name!r} is no kind of prompt; choose from {', '.join(KINDS)}, or give the dotted "
            "path of a subclass of uniphd.prompts.Prompt."
        )
    return found


def prompt_from_json(value: Any, kinds: Mapping[str, type[Prompt]] = KINDS) -> Prompt:
    """A sound prompt from plain values: {"kind": "point", "point": [x, y]} and the like.

    Args:
        value: what `Prompt.to_json` returns, and its `kind`.
        kinds: that may come.

    Raises:
        PromptError: the value is of no kind, or its prompt is not sound.
    """
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise PromptError(f"A prompt is {value!r:.80}; its kind is one of {', '.join(kinds)}.")
    try:
        prompt = kinds[kind].from_json(value)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PromptError(
            f"A {kind} prompt is {value!r:.80} and cannot be read: {error}"
        ) from error
    prompt.require_sound()
    return prompt
