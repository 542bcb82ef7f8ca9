"""Whether a network is composed as its constructors' annotations say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from torch import nn

from uniphd.errors import CheckpointError


def require_parts(module: nn.Module, where: str) -> None:
    """Refuse a part of another class than the constructor's annotation: its weights may yet fit.

    A part is the attribute of its argument's name.

    Args:
        module: the network.
        where: what describes it, for the message.

    Raises:
        CheckpointError: a part is missing or of another class.
    """
    for name, classes in _part_arguments(type(module)):
        part = getattr(module, name)
        if not isinstance(part, classes):
            raise CheckpointError(
                f"{where} has a {type(part).__name__} at '{name}' instead of a "
                f"{' or '.join(cls.__name__ for cls in classes)}."
            )
        if isinstance(part, nn.Module):
            require_parts(part, where)


def _part_arguments(cls: type) -> Iterator[tuple[str, tuple[type, ...]]]:
    """Arguments of a constructor that are modules, with the classes that they may have."""
    hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    for name, hint in hints.items():
        classes: tuple[Any, ...] = get_args(hint) or (hint,)
        if any(isinstance(inner, type) and issubclass(inner, nn.Module) for inner in classes):
            yield name, classes
