"""Checkpoints for use: a folder with `model.safetensors` and `config.json`, both plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from uniphd.errors import CheckpointError

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CONFIG_KEY = "uniphd_config"
"""Where a training checkpoint holds its `ModelConfig` as a plain dict."""
_FORMAT = "uniphd-model-1"
_RUN_PREFIX = "model."  # of the network's weights in a training checkpoint


@dataclass(frozen=True)
class ModelConfig:
    """What is needed beside the weights to use a model.

    Attributes:
        model: constructor tree of the network, see `uniphd.models.build`.
        tokenizer: constructor arguments of the tokenizer with `_target_`, of `uniphd.models`.
        preprocessing: `size` and `max_size` of the evaluation resize, in pixels.
    """

    model: dict[str, Any]
    tokenizer: dict[str, Any]
    preprocessing: dict[str, int] = field(default_factory=lambda: {"size": 640, "max_size": 640})


def save_folder(folder: Path, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Write a model folder; it is created when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / WEIGHTS_FILE)
    text = json.dumps({"format": _FORMAT, **asdict(config)}, indent=2)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def read_folder(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read a model folder.

    Raises:
        CheckpointError: a file is missing or is not one of ours.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} has no {name}; a model folder, as uniphd-convert writes it, has "
                f"{CONFIG_FILE} and {WEIGHTS_FILE}."
            )
    try:
        content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if content.pop("format", None) != _FORMAT:
            raise ValueError(f"its format is not '{_FORMAT}'")
        config = ModelConfig(**content)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} is not a model configuration: {error}."
        ) from error
    try:
        return config, load_file(folder / WEIGHTS_FILE)
    except SafetensorError as error:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} is not a safetensors file: {error}."
        ) from error


def read_run(content: Mapping[str, Any]) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Configuration and weights from a loaded training checkpoint, which has `CONFIG_KEY`."""
    weights = {
        key.removeprefix(_RUN_PREFIX): value
        for key, value in content["state_dict"].items()
        if key.startswith(_RUN_PREFIX)
    }
    return ModelConfig(**content[CONFIG_KEY]), weights
