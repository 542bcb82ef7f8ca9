"""Checkpoints for use: a folder with `model.safetensors` and `config.json`, both plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from uniphd.checkpoints.older import renamed_config, renamed_weights
from uniphd.checkpoints.plain import read_json, require_plain
from uniphd.errors import CheckpointError
from uniphd.keypoints import COCO17
from uniphd.training.fault_tolerance.files import replacing

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
TOKENIZER_FOLDER = "tokenizer"
OWN_TOKENIZER = f"./{TOKENIZER_FOLDER}"
"""The name of a tokenizer whose files are in the model folder."""
CONFIG_KEY = "uniphd_config"
"""Where a training checkpoint holds its `ModelConfig` as a plain dict."""
RUN_KEY = "uniphd_run"
"""Where a training checkpoint holds the contents of its `run.json`."""
COMPILED = "_orig_mod."
"""In names of what torch.compile wraps."""
_FORMAT = "uniphd-model-1"
_RUN_PREFIX = "model."  # of the network's weights in a training checkpoint
_LONGEST_SIDE = 4_096  # pixels; six times what the network is trained at
_MOST = {"max_length": 16_384, "vocab_size": 1 << 20}  # of a tokenizer
_TOKENIZERS = tuple(
    f"uniphd.models.tokenizer.{name}" for name in ("HashTokenizer", "HuggingFaceTokenizer")
)


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

    @property
    def keypoints(self) -> str:
        """Name of the set that the network predicts; COCO's where a checkpoint says none."""
        return str(self.model.get("keypoints", COCO17.name))

    def require_keypoints(self, name: str, source: Path | str) -> None:
        """Refuse to go on from the checkpoint `source` with another keypoint set.

        Raises:
            CheckpointError: it is another one.
        """
        if name != self.keypoints:
            raise CheckpointError(
                f"{source} predicts poses of keypoints={self.keypoints}, but keypoints={name} is "
                "chosen; give the same set, or another checkpoint."
            )


def save_folder(folder: Path, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Write a model folder; it is created when missing.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    write_weights(folder / WEIGHTS_FILE, weights)
    text = json.dumps({"format": _FORMAT, **asdict(config)}, indent=2)
    with replacing(folder / CONFIG_FILE) as file:
        file.write(f"{text}\n".encode())


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a safetensors file with the permissions of any new file.

    `safetensors.torch.save_file` of 0.8 leaves it readable by its owner alone (its issue 782).

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    separate: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, value in weights.items():
        storage = value.untyped_storage().data_ptr()
        # safetensors refuses tensors that share their memory, such as tied embeddings.
        separate[name] = value.clone() if storage in storages else value
        storages.add(storage)
    with replacing(path) as file:
        file.write(save({name: value.contiguous() for name, value in separate.items()}))


def read_folder(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read a model folder.

    The name of a tokenizer whose files are in the folder becomes the path of these.

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
        content = read_json(folder / CONFIG_FILE)
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise ValueError(f"its format is not '{_FORMAT}'")
        config = with_own_tokenizer(parse_config(content), folder)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} is not a model configuration: {error}."
        ) from error
    try:
        return config, renamed_weights(load_file(folder / WEIGHTS_FILE))
    except (
        Exception
    ) as error:  # also for kinds of numbers that safetensors knows and torch does not
        reason = str(error) or type(error).__name__
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} is not a safetensors file: {reason}."
        ) from error


def read_run(content: Mapping[str, Any], source: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Configuration and weights from a loaded training checkpoint, which has `CONFIG_KEY`.

    Args:
        content: of the file.
        source: the file, for messages.

    Raises:
        CheckpointError: one of the two is not what uniphd-train writes.
    """
    try:
        config = parse_config(content[CONFIG_KEY])
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"'{CONFIG_KEY}' of {source} is damaged: {error}.") from error
    state = content.get("state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise CheckpointError(f"'state_dict' of {source} is missing or not one; train again.")
    weights = {
        key.removeprefix(_RUN_PREFIX).replace(COMPILED, ""): value
        for key, value in state.items()
        if key.startswith(_RUN_PREFIX)
    }
    if wrong := [key for key, value in weights.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(f"'state_dict' of {source} has no tensor at '{wrong[0]}'.")
    return config, renamed_weights(weights)


def parse_config(content: Any) -> ModelConfig:
    """The configuration in a file, whose author may be anybody.

    Raises:
        ValueError: a part is of the wrong type; a size is no sensible number of pixels. (Hydra
            would construct what a mapping in place of a number names.)
        TypeError: a part is missing or left over.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"it is a {type(content).__name__}")
    require_plain(content)
    config = ModelConfig(**renamed_config(dict(content)))
    for name in ("model", "tokenizer"):
        node = getattr(config, name)
        if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
            raise ValueError(f"its '{name}' does not name a class with '_target_'")
    _require_tokenizer(config.tokenizer)
    sizes: Any = config.preprocessing
    if not isinstance(sizes, Mapping) or not set(sizes) <= {"size", "max_size"}:
        raise ValueError("its 'preprocessing' has other entries than 'size' and 'max_size'")
    if not all(type(value) is int and 1 <= value <= _LONGEST_SIDE for value in sizes.values()):
        raise ValueError(f"its 'preprocessing' needs integers from 1 to {_LONGEST_SIDE}")
    return config


def with_own_tokenizer(config: ModelConfig, folder: Path) -> ModelConfig:
    """The configuration, with the path of the tokenizer's files where they are in the folder."""
    if config.tokenizer.get("name") != OWN_TOKENIZER:
        return config
    files = folder / TOKENIZER_FOLDER
    if not files.is_dir():
        raise ValueError(f"its tokenizer is in the folder {files}, which is missing")
    return replace(config, tokenizer={**config.tokenizer, "name": str(files.resolve())})


def _require_tokenizer(node: Mapping[str, Any]) -> None:
    """Refuse any other class, and arguments that are no name and no numbers."""
    if node["_target_"] not in _TOKENIZERS:
        raise ValueError(f"its 'tokenizer' is a '{node['_target_']:.80}', not one of {_TOKENIZERS}")
    for name, value in node.items():
        if name in ("_target_", "name"):
            fits = isinstance(value, str)
        else:
            fits = name in _MOST and type(value) is int and 1 <= value <= _MOST[name]
        if not fits:
            raise ValueError(f"its 'tokenizer' has '{name:.80}': {value!r:.80}")
