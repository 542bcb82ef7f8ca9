"""Build a network from its configuration: nested mappings with `_target_` and arguments.

The syntax is Hydra's, but only classes of `uniphd.models` may be named, so that the configuration
inside a downloaded checkpoint cannot run anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from uniphd.errors import ConfigError
from uniphd.prompts import Tokenize

_ALLOWED = "uniphd.models."


def build_model(config: Mapping[str, Any]) -> nn.Module:
    """Construct the module that `config` describes.

    Args:
        config: plain mapping (no interpolations) with `_target_`, a class of `uniphd.models`, and
            its arguments; arguments with a `_target_` of their own are constructed first.

    Raises:
        ConfigError: a target is not one of our modules, or does not take the given arguments.
    """
    return _build(config, "model")  # type: ignore[no-any-return]


def build_tokenizer(config: Mapping[str, Any]) -> Tokenize:
    """Construct the tokenizer that `config` describes; see `build_model`."""
    return _build(config, "tokenizer")  # type: ignore[no-any-return]


def _build(node: Any, where: str) -> Any:
    if not isinstance(node, Mapping) or "_target_" not in node:
        return node
    target = _resolve(str(node["_target_"]), where)
    arguments = {
        str(key): _build(value, f"{where}.{key}")
        for key, value in node.items()
        if key != "_target_"
    }
    try:
        return target(**arguments)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error


def _resolve(name: str, where: str) -> type:
    module, _, attribute = name.rpartition(".")
    if not module.startswith(_ALLOWED):
        raise ConfigError(
            f"{where}._target_ is '{name:.80}'; only classes of uniphd.models are built."
        )
    try:
        target = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:  # also names with a NUL
        raise ConfigError(f"{where}._target_ names '{name:.80}', which does not exist.") from error
    if not (isinstance(target, type) and target.__module__ == module):
        raise ConfigError(f"{where}._target_ is '{name:.80}', which is not a class of that module.")
    return target
