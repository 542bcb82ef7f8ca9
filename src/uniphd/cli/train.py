"""`uniphd-train`: compose a run from the configuration, train, validate."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import hydra
import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig, OmegaConf
from rich import print as rich_print

from uniphd.checkpoints.reading import start_from
from uniphd.config.allocator import keep_freed_memory
from uniphd.config.checks import refuse_impossible
from uniphd.config.compose import (
    build,
    build_callbacks,
    build_network,
    build_nodes,
    config_dir,
    fill_resolvers,
    load_tokenizer,
    parameter_report,
    require_values,
    silence_noise,
)
from uniphd.config.folders import own_folder
from uniphd.config.launch import is_first_process, keep_one_log, require_processes
from uniphd.config.messages import explain_overrides
from uniphd.config.resume import checkpoint_to_resume, full_disk_is_an_error, read_to_resume
from uniphd.config.same_run import require_same_run
from uniphd.config.sweeps import refuse_relaunch, run_trial, sweep_result
from uniphd.data.loaders import ReferringDataModule
from uniphd.errors import ConfigError, printable
from uniphd.interrupt import exit_at_interrupt
from uniphd.keypoints import keypoint_schema
from uniphd.metrics.report import metrics_table
from uniphd.models.build import build_tokenizer
from uniphd.models.compilation import compile_parts
from uniphd.models.text_encoder import check_texts
from uniphd.ops.backend import resolve_backend
from uniphd.prompts import Tokenize
from uniphd.refusals import escape_log_records, exit_on_user_error, refused
from uniphd.training.callbacks.monitors import MonitorCheck
from uniphd.training.callbacks.run_record import RunRecord
from uniphd.training.fault_tolerance.checkpoint_io import DurableCheckpointIO
from uniphd.training.fault_tolerance.exact_resume import ExactResume
from uniphd.training.first_batch import explain_refusals
from uniphd.training.loggers.resuming import LoggerStates, load_logger_states
from uniphd.training.module import RefHumanModule
from uniphd.training.processes import explain_lost_processes


def train(config: DictConfig) -> dict[str, float]:
    """Run one training.

    Args:
        config: composed from `configs/train.yaml`.

    Returns:
        The last logged value of every metric.
    """
    with refused("The run cannot be prepared"):
        trainer, module, data, checkpoint = _prepare(config)
    with (
        explain_refusals(module),
        explain_lost_processes(),
        full_disk_is_an_error(config.paths.output_dir),
    ):
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if module.results and trainer.is_global_zero:
        rich_print(metrics_table(module.results))
    if trainer.is_global_zero:
        print(printable(f"Checkpoints, curves and images: {config.paths.output_dir}"))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _prepare(
    config: DictConfig,
) -> tuple[Trainer, RefHumanModule, ReferringDataModule, str | None]:
    """Build everything that a training needs, and find the checkpoint that it goes on from."""
    keypoint_schema(config.keypoints)  # an unknown one leaves sizes that cannot be filled in
    require_values(config)
    refuse_impossible(config)
    tokenize = build_tokenizer(config.tokenizer)
    data: ReferringDataModule = build(config.data, tokenize=tokenize)
    validates = data.validates and config.trainer.limit_val_batches != 0
    kinds = data.train_kinds.union(data.val_prompts if validates else ())
    has_texts = load_tokenizer(tokenize, kinds)
    if not validates:
        _train_without_validation(config)
    checkpoint_io = DurableCheckpointIO()
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    record = RunRecord(config.paths.output_dir, plain)
    trainer = _build_trainer(config, record, checkpoint_io)
    processes = trainer.num_devices * trainer.num_nodes
    require_processes(processes)
    if HydraConfig.initialized():
        refuse_relaunch(HydraConfig.get().mode, processes, _started_outside(trainer))
    checkpoint = checkpoint_to_resume(config)
    # Before the processes meet: whoever compiles would keep the others waiting for their time-out.
    resolve_backend(trainer.strategy.root_device.type, required=False)
    module = _build_module(config, tokenize if has_texts else None)
    if checkpoint is not None and trainer.is_global_zero:
        content = read_to_resume(checkpoint, checkpoint_io, module)
        record.keep(require_same_run(content, checkpoint, config, trainer, module))
        load_logger_states(trainer.loggers, content, checkpoint)
    return trainer, module, data, checkpoint


def _build_trainer(
    config: DictConfig, record: RunRecord, checkpoint_io: DurableCheckpointIO
) -> Trainer:
    """The trainer, which keeps a checkpoint only where a callback says so."""
    callbacks = build_callbacks(config)
    trainer: Trainer = build(
        config.trainer,
        callbacks=[
            MonitorCheck(callbacks, config.optimized_metric),
            *callbacks,
            *(record, LoggerStates(), ExactResume()),
        ],
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        logger=build_nodes(config.logger),
        plugins=[checkpoint_io],
    )
    return trainer


def _build_module(config: DictConfig, tokenize: Tokenize | None) -> RefHumanModule:
    """Network and losses, as the configuration and its seed say; texts are tried, if there are."""
    with refused(f"seed={config.seed} cannot be used"):
        lightning.seed_everything(config.seed, workers=True, verbose=False)
    network, model_config = build_network(config)
    if config.print_summary and is_first_process():
        rich_print(parameter_report(network))
    if config.init_from is not None:
        start_from(network, config.init_from)
    if tokenize is not None:
        check_texts(network.prompt_encoder.text_encoder, tokenize)
    if config.compile is not None:
        compile_parts(network, mode=config.compile)
    module: RefHumanModule = build(
        config.module, model=network, criterion=build(config.loss), model_config=model_config
    )
    return module


def _started_outside(trainer: Trainer) -> bool:
    """Whether Slurm, torchrun or the like starts the processes of a training."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return environment is not None and bool(environment.creates_processes_externally)


def _train_without_validation(config: DictConfig) -> None:
    """Ask for no validation, and for no checkpoint that is best in one.

    Raises:
        ConfigError: training is to stop early, or a sweep to be told a metric, as validations say.
    """
    stopping = (config.callbacks or {}).get("early_stopping")
    if stopping is not None or config.optimized_metric is not None:
        needs = "Early stopping" if stopping is not None else "optimized_metric"
        raise ConfigError(
            f"{needs} needs a validation, which data.val_file=null and trainer.limit_val_batches=0 "
            "leave out."
        )
    config.trainer.limit_val_batches = 0
    if "best" in (config.callbacks or {}):
        config.callbacks.best = None


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")
def _hydra_main(config: DictConfig) -> float | None:
    _prepare_process()  # again, where a launcher runs this in a process of its own
    keep_one_log()
    return run_trial(partial(_run, config), config.optimized_metric)


def _run(config: DictConfig) -> float | None:
    with exit_on_user_error("uniphd-train", config.paths.output_dir), own_folder(config):
        return sweep_result(train(config), config.optimized_metric)


def main() -> None:
    """Run the command."""
    _prepare_process()
    with (
        exit_at_interrupt("uniphd-train", quiet=not is_first_process()),
        explain_overrides("uniphd-train", "train"),
    ):
        _hydra_main()


def _prepare_process() -> None:
    """Set what holds for the whole process; may be called again."""
    keep_freed_memory()
    fill_resolvers()
    silence_noise()
    escape_log_records()
    torch.set_float32_matmul_precision("high")


if __name__ == "__main__":
    main()
