"""Choices that exclude each other: refused with one sentence before anything is built."""

from __future__ import annotations

import math
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from uniphd.config.argument_types import refuse_wrong_types
from uniphd.errors import ConfigError
from uniphd.keypoints import keypoint_schema
from uniphd.losses.criterion import MASK_LOSSES
from uniphd.metrics.direction import LOSSES
from uniphd.metrics.evaluator import METRICS

_POSE_LOSSES = ("keypoints", "oks", "visibility")
_MASK_METRICS = ("oIoU", "mIoU", "P@", "mask_", "pick", "referring_acc", "swap")
_POSE_METRICS = ("pose_", "PCKh", "mean_OKS")
_FOREVER = -1  # Lightning's max_epochs and max_steps
# The least of numbers with which Lightning would go on without a word: without clipping, with a
# validation after every step, or until it divides by zero.
_LEAST = {
    "trainer.gradient_clip_val": 0,
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.log_every_n_steps": 0,
    "trainer.num_nodes": 1,
    "optim.scheduler.gamma": 0,
    "trainer.num_sanity_val_steps": -1,
    "callbacks.early_stopping.patience": 1,
    "callbacks.early_stopping.min_delta": 0,
}
_ROUNDED = ("16-true", "bf16-true", "64-true", "transformer-engine", "transformer-engine-float16")


def refuse_impossible(config: DictConfig) -> None:
    """Check what a training's configuration puts together.

    Args:
        config: composed from `configs/train.yaml`, with every mandatory value.

    Raises:
        ConfigError: naming the keys that exclude each other, and what to do.
    """
    _check_groups(config)
    _check_is_trained_on(config.data)
    refuse_wrong_types(config)
    refuse_trainer(config)
    _check_data_of_losses(config)
    _check_schedule(config)
    _check_validation(config)
    _check_metrics(config)


def refuse_trainer(config: DictConfig) -> None:
    """Check what Lightning takes, and neither it nor the network can work with.

    Args:
        config: of a training or an evaluation.

    Raises:
        ConfigError: a number is out of its range, or the precision is one of tensors as a whole.
    """
    for key, least in _LEAST.items():
        value = OmegaConf.select(config, key)
        if value is not None and not least <= value < math.inf:
            raise ConfigError(f"{key} is {value}; give a number of at least {least}.")
    precision = config.trainer.precision
    if precision in _ROUNDED:
        raise ConfigError(
            f"trainer.precision={precision} would convert annotations, too, and no part of the "
            "network is made for it; give 32-true, or bf16-mixed or 16-mixed to compute in 16 bits."
        )


def refuse_quantized_gpu(config: DictConfig) -> None:
    """Check that an evaluation in 8 bits runs where it can.

    Args:
        config: composed from `configs/eval.yaml`.

    Raises:
        ConfigError: it would run on a GPU.
    """
    accelerator = config.trainer.accelerator
    on_cpu = accelerator == "cpu" or (
        accelerator == "auto" and not torch.accelerator.is_available()
    )
    if config.int8 and not on_cpu:
        raise ConfigError("int8=true multiplies on the CPU only; give trainer.accelerator=cpu too.")


def _check_groups(config: DictConfig) -> None:
    """What stands in a group of objects can be built."""
    for group in ("callbacks", "logger"):
        for name, node in (config[group] or {}).items():
            if not (node is None or (isinstance(node, DictConfig) and "_target_" in node)):
                raise ConfigError(
                    f"{group}.{name} has no _target_, which names the class to build; add "
                    f"+{group}.{name}._target_=CLASS, or give null to leave it out."
                )


def _check_is_trained_on(data: DictConfig) -> None:
    """Data of an evaluation alone have no batches to train on."""
    if "batch_size" not in data:
        raise ConfigError(
            f"data._target_={data._target_} is for evaluations alone, such as uniphd-eval "
            "protocol=coco; uniphd-data from-coco makes data to train on."
        )


def _check_data_of_losses(config: DictConfig) -> None:
    """The grounding loss and the data that is loaded for it alone."""
    grounding, data = config.loss.auxiliary.get("grounding"), config.data
    if grounding is None and (captions := data.num_extra_captions):
        raise ConfigError(
            f"data.num_extra_captions={captions} gives sentences to the grounding loss alone; "
            "choose loss=plus with model=uniphd_plus, or give data.num_extra_captions=0."
        )
    if grounding is not None and grounding.contrastive_weight and not data.group_by_image:
        raise ConfigError(
            "loss.auxiliary.grounding.contrastive_weight compares the people of an image, who are "
            "in one batch only with data.group_by_image=true; give that, or a weight of 0."
        )


def _check_schedule(config: DictConfig) -> None:
    """A cosine needs an end after its warm-up."""
    schedule, trainer = config.module.scheduler, config.trainer
    if schedule is None or "total_steps" not in schedule or schedule.total_steps is not None:
        return
    if trainer.max_steps == trainer.max_epochs == _FOREVER:
        raise ConfigError(
            "optim=cosine falls to zero at the end of the run, which has none; give "
            "trainer.max_steps, trainer.max_epochs or optim.scheduler.total_steps."
        )
    if _FOREVER < trainer.max_steps <= schedule.warmup_steps:
        raise ConfigError(
            f"trainer.max_steps={trainer.max_steps} ends the run within the "
            f"{schedule.warmup_steps} steps of optim.scheduler.warmup_steps; give more or fewer."
        )


def _check_validation(config: DictConfig) -> None:
    """Lightning takes a negative number for 1, and divides by zero."""
    every = config.trainer.get("val_check_interval")
    if isinstance(every, int | float) and every <= 0:
        raise ConfigError(
            f"trainer.val_check_interval={every} is no number of steps; where it follows "
            "trainer.max_steps and the run has none, give the steps between two validations."
        )


def _check_metrics(config: DictConfig) -> None:
    """What decides about checkpoints, stopping and sweeps is logged, and is trained for."""
    kinds = [*config.data.val_prompts, "mean"]
    logged = [f"val/{kind}/{metric}" for kind in kinds for metric in METRICS]
    for key, name in _monitors(config):
        if name.startswith(LOSSES):
            _check_loss(key, name, config.loss)
            continue
        if name not in logged:
            near = get_close_matches(name, logged, 1) or ["val/mean/pose_AP"]
            raise ConfigError(
                f"{key}={name} is never logged in this run, which validates "
                f"{', '.join(config.data.val_prompts)}; the nearest is {near[0]}."
            )
        if "PCKh" in name and keypoint_schema(config.keypoints).head_pair is None:
            raise ConfigError(
                f"{key}={name} is undefined for keypoints={config.keypoints}, which have no head's "
                f"size; give {key}=val/mean/pose_AP."
            )
        _check_trained(key, name, config.loss.weights)


def _check_loss(key: str, name: str, loss: DictConfig) -> None:
    """A loss that decides is one that this run computes."""
    weights = {**loss.weights, **{name: 1 for name, part in loss.auxiliary.items() if part}}
    known = ["loss", *(name for name, weight in weights.items() if weight)]
    if name.rpartition("/")[2] not in known:
        raise ConfigError(
            f"{key}={name} is never logged in this run, whose losses are {', '.join(known)}; give "
            f"{key}=train/loss."
        )


def _monitors(config: DictConfig) -> Iterator[tuple[str, str]]:
    """Keys that name a metric, and the name."""
    for name, callback in (config.callbacks or {}).items():
        if callback is not None and callback.get("monitor") is not None:
            yield _source(callback, "monitor", f"callbacks.{name}.monitor"), callback.monitor
    if config.optimized_metric is not None:
        key = _source(config, "optimized_metric", "optimized_metric")
        yield key, config.optimized_metric


def _source(node: DictConfig, key: str, path: str) -> str:
    """Where a metric's name is written: in the key `path`, or in the one that this refers to."""
    return "monitor" if OmegaConf.is_interpolation(node, key) else path


def _check_trained(key: str, name: str, weights: Any) -> None:
    """A metric of masks or poses that no loss trains is decided by chance."""
    metric = name.rpartition("/")[2]
    for families, losses, other in (
        (_POSE_METRICS, _POSE_LOSSES, "val/mean/mask_AP"),
        (_MASK_METRICS, MASK_LOSSES, "val/mean/pose_AP"),
    ):
        if metric.startswith(families) and not any(weights.get(loss) for loss in losses):
            raise ConfigError(
                f"{key}={name} measures what no loss trains (loss.weights of {', '.join(losses)} "
                f"are 0); give {key}={other}."
            )
