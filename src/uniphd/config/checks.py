"""Choices that exclude each other: refused with one sentence before anything is built."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from uniphd.errors import ConfigError
from uniphd.keypoints import keypoint_schema
from uniphd.losses.criterion import MASK_LOSSES
from uniphd.metrics.direction import LOSSES
from uniphd.metrics.evaluator import METRICS

_POSE_LOSSES = ("keypoints", "oks", "visibility")
_MASK_METRICS = ("oIoU", "mIoU", "P@", "mask_", "pick", "referring_acc", "swap")
_POSE_METRICS = ("pose_", "PCKh", "mean_OKS")
_FOREVER = -1  # Lightning's max_epochs and max_steps


def refuse_impossible(config: DictConfig) -> None:
    """Check what a training's configuration puts together.

    Args:
        config: composed from `configs/train.yaml`, with every mandatory value.

    Raises:
        ConfigError: naming the keys that exclude each other, and what to do.
    """
    _check_references(config)
    _check_sizes(config)
    _check_parts(config)
    _check_data_of_losses(config)
    _check_schedule(config)
    _check_validation(config)
    _check_metrics(config)


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


def _check_references(config: DictConfig) -> None:
    """A key that takes another one's value needs the other."""
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        message = " ".join(str(error.msg).split())
        raise ConfigError(
            f"{error.full_key} cannot be filled in: {message}; give it a value."
        ) from error


def _check_sizes(config: DictConfig) -> None:
    sizes = config.sizes
    for name, value in sizes.items():
        if name not in ("dropout", "encoder_layers") and value < 1:
            raise ConfigError(f"sizes.{name} is {value}; give a number of at least 1.")
    if sizes.hidden_dim % sizes.num_heads:
        raise ConfigError(
            f"sizes.hidden_dim={sizes.hidden_dim} is not a multiple of "
            f"sizes.num_heads={sizes.num_heads}; give one that is."
        )


def _check_parts(config: DictConfig) -> None:
    """Of the network's parts, only fusion and rescoring can be left out."""
    parts = config.model.items()
    optional = ("fusion", "rescoring")
    if missing := [name for name, part in parts if part is None and name not in optional]:
        raise ConfigError(
            f"model.{missing[0]} is null, but the network needs all its parts; what can be left "
            "out is a choice: model.fusion=null, loss=no_mask, loss=no_pose, "
            "model.decoder.within_attention=none."
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
    """Lightning would take a negative number of steps as a validation after every step."""
    if (every := config.trainer.get("val_check_interval")) is not None and every < 0:
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
