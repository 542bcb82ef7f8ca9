"""Whether a checkpoint can go on as this run: its settings, optimizer, schedule and length."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from omegaconf import DictConfig, OmegaConf
from torch import nn

from uniphd.checkpoints.folder import RUN_KEY
from uniphd.checkpoints.older import renamed_config
from uniphd.config.comparison import (
    Difference,
    Verdict,
    change_order,
    compare,
    without_copies,
    without_equal_steps,
)
from uniphd.errors import CheckpointError, ConfigError
from uniphd.training.module import RefHumanModule
from uniphd.training.schedule import Schedule

_logger = logging.getLogger(__name__)
_MOST = 10  # settings in a message
_OTHER_ORDER = (
    " The epoch under way goes on in another order, so some people come twice in it, others never."
)


def require_same_run(
    content: Mapping[str, Any],
    path: str,
    config: DictConfig,
    trainer: Trainer,
    module: RefHumanModule,
) -> dict[str, Any]:
    """Compare what a run is with what the checkpoint's run was.

    Settings that count from here on, and those that the checkpoint decides, are named in warnings.

    Args:
        content: of the checkpoint, see `uniphd.config.resume.read_to_resume`.
        path: of the checkpoint.
        config: of this run.
        trainer: of this run.
        module: of this run.

    Returns:
        By key, the values that the checkpoint decides, where this run's settings are others.

    Raises:
        ConfigError: the run cannot go on with these settings.
        CheckpointError: the checkpoint has the state of another optimizer or schedule.
    """
    step = int(content["global_step"])
    if -1 < trainer.max_steps < step:
        raise ConfigError(
            f"{path} has {step} steps already, more than trainer.max_steps={trainer.max_steps}; "
            "give more."
        )
    _require_average(content, path, trainer)
    differences = _differences(content, path, config, trainer)
    _require_same_groups(content, path, module)
    _require_same_states(content, path, module)
    return {d.key: d.before for d in differences if d.verdict is Verdict.IGNORED}


def _require_average(content: Mapping[str, Any], path: str, trainer: Trainer) -> None:
    callbacks: Sequence[Any] = trainer.callbacks  # type: ignore[attr-defined]
    averages = any(isinstance(callback, WeightAveraging) for callback in callbacks)
    if "current_model_state" in content and not averages:
        raise ConfigError(
            f"{path} is of a run with an average of the weights, from which this run without one "
            f"would go on; give callbacks=[default,ema]. {_anew(path)} from the average."
        )


def _differences(
    content: Mapping[str, Any], path: str, config: DictConfig, trainer: Trainer
) -> list[Difference]:
    """The settings that differ from those that a checkpoint has; they are warned of.

    Raises:
        ConfigError: one of them cannot change.
    """
    if (record := content.get(RUN_KEY)) is None:
        _logger.warning(
            "%s does not have the settings of its run, so they are not compared with this run's.",
            path,
        )
        return []
    processes = trainer.num_devices * trainer.num_nodes
    before = {
        **renamed_config(record["config"]),
        "processes": record.get("devices", {}).get("processes", processes),
    }
    now = {**_plain(config, resolve=True), "processes": processes}
    differences = compare(before, now)
    own = without_copies(differences, _plain(config, resolve=False))
    own = without_equal_steps(own, _people_per_step(before), _people_per_step(now))
    if refused := _listed(own, Verdict.REFUSED):
        raise ConfigError(
            f"A run cannot change on its way what {path} had otherwise: {refused}. Give what it "
            f"had. {_anew(path)} from its weights."
        )
    if ignored := _listed(own, Verdict.IGNORED):
        _logger.warning(
            "What the command says does not count, as ckpt_path takes it from the checkpoint: %s. "
            "%s with it.",
            ignored,
            _anew(path),
        )
    if changed := _listed(own, Verdict.COUNTS):
        _logger.warning(
            "From here on the run has other settings than in its first %d steps: %s.%s",
            content["global_step"],
            changed,
            _OTHER_ORDER if _is_within_an_epoch(content) and change_order(own) else "",
        )
    return differences


def _is_within_an_epoch(content: Mapping[str, Any]) -> bool:
    progress = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return progress["current"]["processed"] > 0 and not progress["is_last_batch"]


def _require_same_groups(content: Mapping[str, Any], path: str, module: RefHumanModule) -> None:
    """Refuse a checkpoint of a training of more or fewer parameters, such as frozen ones."""
    (optimizer, *others), groups = content["optimizer_states"], module.parameter_groups()
    before, now = (
        [len(group["params"]) for group in each] for each in (optimizer["param_groups"], groups)
    )
    if others or before != now:
        raise CheckpointError(
            f"{path} is of a run that trained {sum(before)} parameters in {len(before)} groups; "
            f"this one trains {sum(now)} in {len(now)}. Give backbone.frozen_stages, "
            f"text_encoder.trainable and optim.param_groups as they were. {_anew(path)}."
        )


def _require_same_states(content: Mapping[str, Any], path: str, module: RefHumanModule) -> None:
    """Try whether an optimizer and a schedule as this run's take the checkpoint's states."""
    groups, (stored, *_) = module.parameter_groups(), content["optimizer_states"]
    trial = module.build_optimizer(
        [{**group, "params": [nn.Parameter(torch.zeros(()))]} for group in groups]
    )
    schedules = content["lr_schedulers"]
    part = "optimizer"
    try:
        numbered = [
            {**group, "params": [index]} for index, group in enumerate(stored["param_groups"])
        ]
        trial.load_state_dict({"state": {}, "param_groups": numbered})
        fits = all(trial.defaults.keys() <= group.keys() for group in trial.param_groups)
        if fits:
            part = "scheduler"
            fits = bool(schedules) == (module.make_scheduler is not None)
            if fits and module.make_scheduler is not None:
                make = (module.make_scheduler, module.build_optimizer, module.interval)
                Schedule(*make, length=10**9).on(trial).load_state_dict(deepcopy(schedules[0]))
    except (KeyError, ValueError, AttributeError, TypeError):
        fits = False
    if not fits:
        raise CheckpointError(
            f"{path} has the state of another {part} than this run's; give optim.{part} as it was. "
            f"{_anew(path)}."
        )


def _plain(config: DictConfig, resolve: bool) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=resolve))


def _people_per_step(config: Mapping[str, Any]) -> int:
    """How many people the processes train on in an optimizer step."""
    accumulated: int = config["trainer"].get("accumulate_grad_batches", 1)
    return int(config["data"].get("batch_size", 1)) * accumulated * int(config["processes"])


def _listed(differences: Sequence[Difference], verdict: Verdict) -> str:
    """The settings of a verdict, "" where there are none."""
    found = [str(difference) for difference in differences if difference.verdict is verdict]
    more = [f"and {len(found) - _MOST} more"] if len(found) > _MOST else []
    return ", ".join((*found[:_MOST], *more))


def _anew(path: str) -> str:
    return f"init_from={path} in place of ckpt_path starts anew"
