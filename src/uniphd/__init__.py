"""Referring human pose and mask estimation: a prompt in, one person's skeleton and mask out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uniphd.checkpoints.reading import load_model

__all__ = ["__version__", "load_model"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import `load_model` on first use, so that `import uniphd` stays light (PEP 562)."""
    if name == "load_model":
        from uniphd.checkpoints.reading import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
