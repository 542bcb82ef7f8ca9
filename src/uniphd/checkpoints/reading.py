"""Load a model for use: from a model folder, or from a training checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from uniphd.checkpoints.convert import read_pickle_safely
from uniphd.checkpoints.folder import CONFIG_KEY, ModelConfig, read_folder, read_run
from uniphd.checkpoints.safety import build_from_checkpoint
from uniphd.errors import CheckpointError
from uniphd.models.uniphd import UniPHD

_PACKAGED = Path(__file__).parents[1] / "weights"


def load_model(path: str | Path) -> UniPHD:
    """Build the network that a checkpoint describes and fill it with its weights.

    Args:
        path: a model folder (from `uniphd-convert`), a `.ckpt` file (from `uniphd-train`), or the
            name of a model that comes with the package: `synthetic_cpu`.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the checkpoint is missing, unsafe, or does not fit.
        ConfigError: its configuration names classes that are not ours.
    """
    config, weights = read_checkpoint(Path(path))
    model = build_from_checkpoint(config.model, weights, path)
    model.load_state_dict(weights)
    return model.eval()


def read_checkpoint(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The configuration and weights of a model folder, a training checkpoint, or a packaged model.

    A path that exists goes before a packaged model of that name.

    Raises:
        CheckpointError: the checkpoint is missing, unsafe, or not one of ours.
    """
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


def portable_config(config: ModelConfig, model: nn.Module) -> dict[str, Any]:
    """`config` as a plain dict that rebuilds the network without a download or another file."""
    portable = asdict(config)
    network = cast(UniPHD, model)
    text_encoder = portable["model"]["prompt_encoder"]["text_encoder"]
    text_encoder.pop("name", None)
    text_encoder["config"] = network.prompt_encoder.text_encoder.config_dict()
    portable["model"]["backbone"].update(pretrained=False, weights=None)
    return cast(dict[str, Any], _plain(portable))


def _plain(value: Any) -> Any:
    """Nested containers of plain values only, so that `weights_only` loading accepts them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
