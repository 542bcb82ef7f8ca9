"""`uniphd-train`: compose a run from the configuration, train, validate."""

from __future__ import annotations

import logging
from pathlib import Path

import hydra
import lightning
import torch
from lightning import Trainer
from omegaconf import DictConfig
from rich import print as rich_print

from uniphd.checkpoints.load import read_checkpoint
from uniphd.cli.allocator import keep_freed_memory
from uniphd.cli.configuration import (
    build,
    build_network,
    build_nodes,
    config_dir,
    exit_on_user_error,
    fill_resolvers,
    parameter_report,
    require_values,
    silence_noise,
)
from uniphd.data.loading import PeopleDataModule
from uniphd.metrics.report import metrics_table
from uniphd.models.build import build_tokenizer
from uniphd.models.uniphd import UniPHD
from uniphd.training.module import RefHumanModule

log = logging.getLogger(__name__)


def train(config: DictConfig) -> dict[str, float]:
    """Run one training.

    Args:
        config: composed from `configs/train.yaml`.

    Returns:
        The last logged value of every metric.
    """
    require_values(config)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    network, model_config = build_network(config)
    if config.print_summary:
        rich_print(parameter_report(network))
    if config.init_from is not None:
        _initialise(network, config.init_from)
    module: RefHumanModule = build(
        config.module, model=network, criterion=build(config.loss), model_config=model_config
    )
    tokenize = build_tokenizer(model_config.tokenizer)
    data: PeopleDataModule = build(config.data, tokenize=tokenize)
    if not data.validates:
        _train_without_validation(config)
    trainer: Trainer = build(
        config.trainer, callbacks=build_nodes(config.callbacks), logger=build_nodes(config.logger)
    )
    trainer.fit(module, datamodule=data, ckpt_path=config.ckpt_path, weights_only=True)
    if module.results and trainer.is_global_zero:
        rich_print(metrics_table(module.results))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _train_without_validation(config: DictConfig) -> None:
    """Ask for no validation, and for no checkpoint that is best in one."""
    config.trainer.limit_val_batches = 0
    if "best" in (config.callbacks or {}):
        config.callbacks.best = None


def _initialise(network: UniPHD, path: str) -> None:
    """Start from another checkpoint's weights; parts of other shapes keep their initial values."""
    _, weights = read_checkpoint(Path(path))
    current = network.state_dict()
    fitting = {
        name: value
        for name, value in weights.items()
        if name in current and current[name].shape == value.shape
    }
    network.load_state_dict(fitting, strict=False)
    log.info("%d of %d entries start from %s", len(fitting), len(current), path)


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")
def _hydra_main(config: DictConfig) -> float | None:
    with exit_on_user_error("uniphd-train"):
        metrics = train(config)
    return metrics.get(config.optimized_metric) if config.optimized_metric else None


def main() -> None:
    """Run the command."""
    keep_freed_memory()
    fill_resolvers()
    silence_noise()
    torch.set_float32_matmul_precision("high")
    _hydra_main()


if __name__ == "__main__":
    main()
