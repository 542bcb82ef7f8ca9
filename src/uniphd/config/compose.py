"""The place of the configuration files, and building objects from configuration nodes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.table import Table
from torch import nn

from uniphd.checkpoints.folder import ModelConfig
from uniphd.config.blame import building
from uniphd.config.launch import run_id
from uniphd.errors import ConfigError, UniPHDError
from uniphd.keypoints import keypoint_schema
from uniphd.metrics.direction import better
from uniphd.models.build import build_model
from uniphd.models.timm_features import map_channels
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import TextPrompt, Tokenize
from uniphd.training.module import parameter_table

_NOISE = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The number of training batches .* is smaller than the logging interval",
    r"The '.*_dataloader' does not have many workers",
    r"The dirpath has changed from",
    r"Be aware that when using `ckpt_path`",  # config.same_run says what of that matters
    r"Checkpoint directory .* exists and is not empty",  # a resumed run writes there again
    r"The .grad attribute of a Tensor that is not a leaf",  # torch.compile's own look at it
    r"It is recommended to use `self.log\('val/.*sync_dist",  # all processes compute the same
    r"Grad strides do not match bucket view strides",  # channels-last weights of a backbone
)
_ADVERTISEMENTS = ("litlogger", "litmodels", "TPU available: False", "that has Tensor Cores")


def config_dir() -> Path:
    """The repository's `configs/` in a checkout, the package's own copy in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "configs"
    return packaged if packaged.is_dir() else package.parents[1] / "configs"


def build(node: Any, **arguments: Any) -> Any:
    """Construct the object of a node with `_target_`; lists and mappings inside stay plain.

    Args:
        node: a configuration node.
        arguments: constructor arguments that are objects already; they are passed as they are.

    Raises:
        ConfigError: the constructor refuses something, with whatever exception.
    """
    with building(node):
        return instantiate(node, _partial_=True, _convert_="all")(**arguments)


def build_nodes(nodes: Mapping[str, Any] | None) -> list[Any]:
    """Construct every node of a mapping of named nodes; nodes set to null are left out."""
    return [build(node) for node in (nodes or {}).values() if node is not None]


def build_callbacks(config: DictConfig) -> list[Any]:
    """Construct a run's callbacks, its progress bar only where the trainer shows one."""
    nodes = dict(config.callbacks or {})
    if not config.trainer.enable_progress_bar:
        nodes.pop("progress_bar", None)
    return build_nodes(nodes)


def build_network(config: DictConfig) -> tuple[UniPHD, ModelConfig]:
    """The network of a run's configuration, and how to rebuild it."""
    plain = cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=True))
    model_config = ModelConfig(
        model=plain,
        tokenizer=cast(dict[str, Any], OmegaConf.to_container(config.tokenizer, resolve=True)),
        preprocessing={
            "size": config.data.eval_transform.size,
            "max_size": config.data.eval_transform.max_size,
        },
    )
    with building(config.model):
        return cast(UniPHD, build_model(plain)), model_config


def load_tokenizer(tokenize: Tokenize, kinds: Collection[str]) -> bool:
    """Load a tokenizer's files if text is among the kinds of prompt that will occur.

    Loading them in a worker of the data loader would end in a traceback.

    Returns:
        Whether text is among them.

    Raises:
        ConfigError: they cannot be loaded.
    """
    if TextPrompt.kind not in kinds:
        return False
    tokenize(["a person"])
    return True


def fill_resolvers() -> None:
    """Register the interpolations that the configuration files use."""
    OmegaConf.register_new_resolver("timm_channels", _timm_channels, replace=True)
    OmegaConf.register_new_resolver("better", better, replace=True)
    OmegaConf.register_new_resolver("num_keypoints", _num_keypoints, replace=True)
    OmegaConf.register_new_resolver("fused", _fused, replace=True)
    OmegaConf.register_new_resolver("run_id", run_id, replace=True, use_cache=True)


def require_values(config: DictConfig) -> None:
    """Refuse a configuration whose mandatory values (`???`) are not given.

    Raises:
        ConfigError: naming them all; or the key that takes another one's value, which there is not.
    """
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(unresolved(error)) from error
    if missing := sorted(OmegaConf.missing_keys(config)):
        example = " ".join(f"{key}=..." for key in missing)
        raise ConfigError(f"{', '.join(missing)} must be given; add {example} to the command.")


def unresolved(error: OmegaConfBaseException) -> str:
    """What a resolver of ours says, or else that a key takes a value which there is not."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, UniPHDError):
            return str(behind)
        behind = behind.__context__
    said = str(error.msg).partition("\n")[0]
    return f"{error.full_key} cannot be filled in: {said}; give it a value."


def silence_noise() -> None:
    """Hide what Lightning prints in every run and no user can act upon."""
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not any(text in record.getMessage() for text in _ADVERTISEMENTS)
    )


def _num_keypoints(name: str) -> int:
    """How many keypoints the set of a name has."""
    return len(keypoint_schema(name))


def _fused(precision: str) -> bool | None:
    """Whether optimizers are fused: Lightning cannot clip before a fused step with a scaler."""
    return None if precision in ("16-mixed", 16, "16") else True


@lru_cache
def _timm_channels(name: str, index: int) -> int:
    """Channels of one of a timm model's four feature maps."""
    return map_channels(name)[index]


def parameter_report(network: nn.Module) -> Table:
    """Parameters per part of the network as a table."""
    table = Table("part", "parameters", title="Parameters")
    table.columns[1].justify = "right"
    for name, count in parameter_table(network).items():
        table.add_row(name, f"{count:,}")
    return table


fill_resolvers()  # already on import: a launcher's processes compose before they call us
