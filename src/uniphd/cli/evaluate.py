"""`uniphd-eval`: an evaluation protocol on a checkpoint, one table and one report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import hydra
import lightning
from lightning import Trainer
from omegaconf import DictConfig
from rich import print as rich_print

from uniphd.checkpoints.reading import load_model_and_config
from uniphd.config.allocator import keep_freed_memory
from uniphd.config.argument_types import refuse_wrong_types
from uniphd.config.checks import refuse_quantized_gpu, refuse_trainer
from uniphd.config.compose import (
    build,
    build_callbacks,
    config_dir,
    fill_resolvers,
    load_tokenizer,
    require_values,
    silence_noise,
)
from uniphd.config.folders import own_folder
from uniphd.config.launch import is_first_process, keep_one_log, require_processes
from uniphd.config.messages import explain_overrides
from uniphd.config.sweeps import run_trial
from uniphd.data.loaders import ReferringDataModule
from uniphd.errors import printable
from uniphd.inference.quantize import quantize_linear_layers
from uniphd.interrupt import exit_at_interrupt
from uniphd.models.build import build_tokenizer
from uniphd.models.text_encoder import check_texts
from uniphd.ops.backend import resolve_backend
from uniphd.refusals import escape_log_records, exit_on_user_error, refused
from uniphd.training.first_batch import explain_refusals
from uniphd.training.module import RefHumanModule
from uniphd.training.processes import explain_lost_processes
from uniphd.training.protocols.base import EvaluationProtocol, Metrics


def evaluate(config: DictConfig) -> Metrics:
    """Evaluate one checkpoint.

    Args:
        config: composed from `configs/eval.yaml`.

    Returns:
        Metrics by column (for RefHuman's protocol, the kind of prompt) and name.
    """
    with refused("The evaluation cannot be prepared"):
        trainer, module, data, protocol = _prepare(config)
    folder = Path(config.paths.output_dir)
    with explain_refusals(module), explain_lost_processes():
        metrics = protocol.evaluate(trainer, module, data, folder)
    if trainer.is_global_zero:
        rich_print(protocol.table(metrics))
        print(printable(f"Report: {folder}"))
    return metrics


def _prepare(
    config: DictConfig,
) -> tuple[Trainer, RefHumanModule, ReferringDataModule, EvaluationProtocol]:
    """Build everything that an evaluation needs."""
    require_values(config)
    refuse_quantized_gpu(config)
    refuse_trainer(config)
    with refused(f"seed={config.seed} cannot be used"):
        lightning.seed_everything(config.seed, workers=True, verbose=False)
    model, model_config = load_model_and_config(config.ckpt)
    if config.keypoints is None:
        config.keypoints = model_config.keypoints
    model_config.require_keypoints(config.keypoints, config.ckpt)
    for key, value in model_config.preprocessing.items():
        if config.data.eval_transform[key] is None:
            config.data.eval_transform[key] = value
    refuse_wrong_types(config)
    tokenize = build_tokenizer(model_config.tokenizer)
    data: ReferringDataModule = build(config.data, tokenize=tokenize)
    if load_tokenizer(tokenize, data.val_prompts):
        check_texts(model.prompt_encoder.text_encoder, tokenize)
    protocol: EvaluationProtocol = build(config.protocol)
    protocol.prepare(data)
    if config.int8:
        model = quantize_linear_layers(model)
    module: RefHumanModule = build(
        config.module, model=model, criterion=None, model_config=model_config
    )
    trainer: Trainer = build(config.trainer, callbacks=build_callbacks(config), logger=False)
    require_processes(trainer.num_devices * trainer.num_nodes)
    resolve_backend(trainer.strategy.root_device.type, required=False)
    return trainer, module, data, protocol


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="eval")
def _hydra_main(config: DictConfig) -> None:
    keep_one_log()
    run_trial(partial(_run, config))


def _run(config: DictConfig) -> None:
    with exit_on_user_error("uniphd-eval", config.paths.output_dir), own_folder(config):
        evaluate(config)


def main() -> None:
    """Run the command."""
    keep_freed_memory()
    fill_resolvers()
    silence_noise()
    escape_log_records()
    with (
        exit_at_interrupt("uniphd-eval", quiet=not is_first_process()),
        explain_overrides("uniphd-eval", "eval"),
    ):
        _hydra_main()


if __name__ == "__main__":
    main()
