"""Which keys an exception is about, and what it is, where a configuration's objects are built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from uniphd.config.argument_types import source
from uniphd.errors import UniPHDError
from uniphd.refusals import refusal

_SHORTEST = 3  # letters of a word that says which value is meant


@contextmanager
def building(node: Any) -> Iterator[None]:
    """Turn whatever a constructor raises into one sentence with the keys that it is about.

    Args:
        node: what is built.

    Raises:
        ConfigError: instead of the exception; errors of ours pass as they are.
    """
    try:
        yield
    except UniPHDError:
        raise
    except Exception as error:
        behind = _cause(error)
        if isinstance(behind, UniPHDError):
            raise behind from error
        raise refusal(f"{_blamed(node, error)} cannot be used", behind) from error


def _cause(error: BaseException) -> BaseException:
    """What is behind the exceptions that Hydra wraps around that of a constructor."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _blamed(node: Any, error: BaseException) -> str:
    """The keys with their values that an exception names, or that of what was being built.

    Args:
        node: what was being built.
        error: its message has the names of arguments, or their values, or both.
    """
    if not isinstance(node, DictConfig):
        return "What is configured"
    said = re.findall(r"[\w.-]+", str(_cause(error)))
    by_sign: dict[int, list[str]] = {1: [], 2: []}
    for key, name, value in _values(node):
        text = str(value)
        signs = (name in said) + (text in said and (len(text) >= _SHORTEST or name in said))
        if signs:
            by_sign[signs].append(f"{key}={text}")
    chosen = by_sign[2] or by_sign[1]
    inside = re.findall(r"full_key: (\S+)", str(error))
    return ", ".join(dict.fromkeys(chosen)) or (inside or [node._get_full_key(None)])[-1]


def _values(node: DictConfig) -> Iterator[tuple[str, str, Any]]:
    """Key, name and value of every plain value below a node."""
    for name in node:
        value = node[name]
        if isinstance(value, DictConfig):
            yield from _values(value)
        elif name not in ("_target_", "_partial_") and value is not None:
            plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            yield source(node, str(name)), str(name), plain
