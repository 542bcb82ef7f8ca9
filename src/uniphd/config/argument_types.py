"""Values of the wrong type, refused by their keys before anything is built.

What a value has to be says the constructor that gets it: its annotations are read.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from uniphd.errors import ConfigError
from uniphd.refusals import refused

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
}
# What no constructor gets.
_TOP: dict[str, Any] = {
    **{"seed": int, "print_summary": bool, "int8": bool, "keypoints": str},
    **dict.fromkeys(
        ("monitor", "ckpt_path", "init_from", "compile", "optimized_metric"), str | None
    ),
}
_MAPPINGS = (dict, Mapping)
_LISTS = (list, tuple, Sequence, Iterable)


def refuse_wrong_types(config: DictConfig) -> None:
    """Check every plain value below a `_target_` against its constructor's annotation.

    Args:
        config: of a run; every interpolation can be resolved.

    Raises:
        ConfigError: naming the key, its value, and what it has to be.
    """
    for name, hint in _TOP.items():
        if name in config and not _fits(value := _plain(config[name]), hint):
            raise ConfigError(_refusal(name, value, hint))
    for node in _targets(config):
        with refused(f"{node._get_full_key('_target_')} cannot be used"):
            target = get_object(node["_target_"])
        for name, hint in argument_types(target).items():
            if name in node and not _fits(value := _plain(node[name]), hint):
                raise ConfigError(_refusal(source(node, name), value, hint))


def _refusal(key: str, value: Any, hint: Any) -> str:
    """What is wrong with a value; of a mapping, with the first of its values that is."""
    if isinstance(value, dict) and get_origin(hint) in _MAPPINGS:
        inside = get_args(hint)[1]
        name = next(name for name, one in value.items() if not _fits(one, inside))
        return _refusal(f"{key}.{name}", value[name], inside)
    return f"{key} is {'null' if value is None else repr(value)}; give {_words(hint)}."


def source(node: DictConfig, name: str) -> str:
    """The key of a value, or that of the one which it refers to as a whole."""
    key: str = node._get_full_key(name)
    if OmegaConf.is_interpolation(node, name):
        text = str(OmegaConf.to_container(node, resolve=False)[name])  # type: ignore[index,call-overload]
        if text.count("${") == 1 and ":" not in text and not text.startswith("${."):
            return text.removeprefix("${").removesuffix("}")
    return key


def argument_types(target: Callable[..., Any]) -> dict[str, Any]:
    """Types of a constructor's arguments by name, as far as they are known.

    Args:
        target: a class, whose bases take what it passes on; or a function.
    """
    calls = [target]
    if isinstance(target, type):
        calls = [base.__init__ for base in inspect.getmro(target)]  # type: ignore[misc]
    types: dict[str, Any] = {}
    for call in map(inspect.unwrap, calls):
        for name, hint in getattr(call, "__annotations__", {}).items():
            types.setdefault(name, _evaluated(name, hint, getattr(call, "__globals__", {})))
    return types


def _evaluated(name: str, hint: Any, names: dict[str, Any]) -> Any:
    """An annotation that may be a text; of names that only a type checker imports, it is Any."""
    known = {**vars(typing), **names}  # libraries may import what they name in annotations alone
    try:
        return get_type_hints(SimpleNamespace(__annotations__={name: hint}), known)[name]
    except Exception:  # whatever evaluating a text raises
        return Any


def _targets(node: Any) -> Iterator[DictConfig]:
    """Every mapping from a node downwards that says what is built of it."""
    if isinstance(node, DictConfig):
        if isinstance(node.get("_target_"), str):
            yield node
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, ListConfig):
        for value in node:
            yield from _targets(value)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; what will be built is, and everything of a type not known."""
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(value, dict) and "_target_" in value:
        return True
    if isinstance(hint, type) and hint.__module__.startswith("uniphd."):
        return False
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in arguments)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint in _WORDS:
        return type(value) is hint
    if origin in _LISTS:
        return isinstance(value, list) and _items_fit(value, arguments)
    if origin in _MAPPINGS:
        return isinstance(value, dict) and all(_fits(one, arguments[1]) for one in value.values())
    return value is not None or origin is None


def _items_fit(values: list[Any], hints: tuple[Any, ...]) -> bool:
    if len(hints) == 1 or hints[1:] == (...,):
        return all(_fits(value, hints[0]) for value in values)
    return len(values) == len(hints) and all(map(_fits, values, hints))


def _words(hint: Any) -> str:
    """A type as a user says it."""
    *others, last = _choices(hint)
    return f"{', '.join(others)} or {last}" if others else last


def _choices(hint: Any) -> list[str]:
    """What a value may be, in words or as it stands, each once."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return list(dict.fromkeys(word for one in arguments for word in _choices(one)))
    if origin is Literal:
        return list(map(str, arguments))
    if origin in _LISTS:
        inside = [_words(one) for one in arguments if one is not ...]
        return [f"a list [{', '.join(inside)}{', ...' if arguments[1:] in ((), (...,)) else ''}]"]
    if origin in _MAPPINGS:
        return [f"a mapping to {_words(arguments[1])}"]
    return [_WORDS.get(hint, str(getattr(hint, "__name__", hint)))]
