"""Referring human pose and mask estimation: a prompt in, one person's skeleton and mask out.

The names below are the ones to import; each is loaded on first use, so that `import uniphd` is
light (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uniphd.checkpoints.pretrained import save_pretrained
    from uniphd.checkpoints.reading import load_model
    from uniphd.inference.encoded import EncodedImage
    from uniphd.inference.predictor import Predictor
    from uniphd.inference.result import Instance
    from uniphd.inference.sam import SAM2Adapter
    from uniphd.keypoints import COCO17, KeypointSchema
    from uniphd.prompts import BoxPrompt, MaskPrompt, PointPrompt, ScribblePrompt, TextPrompt
    from uniphd.structures import Instances

__all__ = [
    "COCO17",
    "BoxPrompt",
    "EncodedImage",
    "Instance",
    "Instances",
    "KeypointSchema",
    "MaskPrompt",
    "PointPrompt",
    "Predictor",
    "SAM2Adapter",
    "ScribblePrompt",
    "TextPrompt",
    "__version__",
    "load_model",
    "save_pretrained",
]

__version__ = "0.1.0"

_MODULES = {
    "uniphd.checkpoints.pretrained": ["save_pretrained"],
    "uniphd.checkpoints.reading": ["load_model"],
    "uniphd.inference.encoded": ["EncodedImage"],
    "uniphd.inference.predictor": ["Predictor"],
    "uniphd.inference.result": ["Instance"],
    "uniphd.inference.sam": ["SAM2Adapter"],
    "uniphd.keypoints": ["COCO17", "KeypointSchema"],
    "uniphd.prompts": ["BoxPrompt", "MaskPrompt", "PointPrompt", "ScribblePrompt", "TextPrompt"],
    "uniphd.structures": ["Instances"],
}


def __getattr__(name: str) -> object:
    """The public name from the module that defines it."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
