"""Load a model for use: from a model folder, or from a training checkpoint."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from uniphd.checkpoints.address import HubAddress, parse_address
from uniphd.checkpoints.folder import (
    CONFIG_KEY,
    TOKENIZER_FOLDER,
    ModelConfig,
    read_folder,
    read_run,
)
from uniphd.checkpoints.pickled import read_pickle_safely
from uniphd.checkpoints.safety import build_from_checkpoint, require_finite, same_kind
from uniphd.errors import CheckpointError
from uniphd.models.uniphd import UniPHD

_logger = logging.getLogger(__name__)
_PACKAGED = Path(__file__).parents[1] / "weights"


def load_model(path: str | Path) -> UniPHD:
    """Build the network that a checkpoint describes and fill it with its weights.

    Args:
        path: a model folder (from `uniphd-convert`), a `.ckpt` file (from `uniphd-train`), the
            name of a model that comes with the package, `synthetic_cpu`, or the address of one on
            the Hugging Face Hub, `hf://owner/name@revision` (docs/hub.md).

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the checkpoint is missing, unsafe, or does not fit.
        ConfigError: its configuration names classes that are not ours.
    """
    return load_model_and_config(path)[0]


def load_model_and_config(path: str | Path) -> tuple[UniPHD, ModelConfig]:
    """The network of `load_model`, and how its inputs are made: tokenizer and image size."""
    config, weights = read_checkpoint(path)
    model = build_from_checkpoint(config.model, weights, path)
    model.load_state_dict(weights)
    _require_vocabulary(config, model, path)
    return model.eval(), config


def _require_vocabulary(config: ModelConfig, model: UniPHD, path: str | Path) -> None:
    """Refuse a tokenizer with numbers that the language model has no vectors for."""
    known = getattr(model.prompt_encoder.text_encoder.body.config, "vocab_size", None)
    used = config.tokenizer.get("vocab_size")
    if known is not None and used is not None and used > known:
        raise CheckpointError(
            f"The tokenizer of {path} has vocab_size={used}, but its language model has {known} "
            "word vectors; give the tokenizer that belongs to it."
        )


def start_from(network: UniPHD, path: str) -> None:
    """Fill a network with another checkpoint's weights, as far as names and shapes are the same.

    The log says how much of every part was filled; the rest keeps its initial values.

    Raises:
        CheckpointError: the checkpoint cannot be read, predicts other keypoints, or none of its
            weights fits.
    """
    config, weights = read_checkpoint(path)
    config.require_keypoints(network.schema.name, path)
    current = network.state_dict()
    fitting = {
        name: value
        for name, value in weights.items()
        if name in current
        and current[name].shape == value.shape
        and same_kind(value, current[name])
    }
    if not fitting:
        raise CheckpointError(
            f"None of the {len(weights)} weights of init_from={path} has the name and shape of one "
            "of this network; give a checkpoint of a similar network, or init_from=null."
        )
    require_finite(fitting, f"The weights of init_from={path} cannot be used")
    network.load_state_dict(fitting, strict=False)
    parts = Counter(name.partition(".")[0] for name in current)
    filled = Counter(name.partition(".")[0] for name in fitting)
    _logger.info(
        "%d of %d weights start from %s: %s",
        *(len(fitting), len(current), path),
        ", ".join(f"{part} {filled[part]} of {count}" for part, count in parts.items()),
    )


def read_checkpoint(model: str | Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The configuration and weights of what `load_model` takes.

    A path that exists goes before a packaged model of that name.

    Raises:
        CheckpointError: the checkpoint is missing, unsafe, or not one of ours.
    """
    if (address := parse_address(model)) is not None:
        return _read_from_hub(address)
    path = Path(model)
    if path.is_dir():
        return read_folder(path)
    if not path.exists() and len(path.parts) == 1 and (_PACKAGED / path).is_dir():
        return read_folder(_PACKAGED / path)
    content = read_pickle_safely(path)
    if CONFIG_KEY not in content:
        raise CheckpointError(
            f"{path} is not a checkpoint of uniphd-train; convert the official release's with "
            "uniphd-convert and give the folder."
        )
    return read_run(content, path)


def _read_from_hub(address: HubAddress) -> tuple[ModelConfig, dict[str, Tensor]]:
    from uniphd.checkpoints.hub import fetch_model

    folder = fetch_model(address)
    config, weights = read_folder(folder)
    name = config.tokenizer.get("name")
    if name is not None and Path(name) != (folder / TOKENIZER_FOLDER).resolve():
        raise CheckpointError(
            f"The tokenizer of {address}, '{name:.80}', is not in that repository, and nothing "
            "else is fetched; send the model with `uniphd-hub push`, which adds it."
        )
    return config, weights


def portable_config(config: ModelConfig, model: nn.Module) -> dict[str, Any]:
    """`config` as a plain dict that rebuilds the network without a download or another file.

    A part that its arguments let read a file has a method `portable_arguments`, which gives the
    arguments to be used instead.

    Args:
        config: how `model` was built.
        model: the network; its parts are attributes by the names of the constructor's arguments.
    """
    portable = {**asdict(config), "model": _portable(config.model, model)}
    return cast(dict[str, Any], _plain(portable))


def _portable(node: Mapping[str, Any], module: nn.Module) -> dict[str, Any]:
    """One node of the constructor tree, with its inner ones."""
    parts = dict(module.named_children())
    inner = {
        name: _portable(value, parts[name])
        for name, value in node.items()
        if isinstance(value, Mapping) and name in parts
    }
    portable_arguments = getattr(module, "portable_arguments", dict)
    return {**node, **inner, **portable_arguments()}


def _plain(value: Any) -> Any:
    """Nested containers of plain values only, so that `weights_only` loading accepts them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
