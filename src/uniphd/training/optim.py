"""Which parameters learn how fast: parameter groups by name, and schedules."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from uniphd.errors import ConfigError


def require_rates(
    lr: float, weight_decay: float, param_groups: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse learning rates and weight decays that are negative or not finite.

    Optimizers look at their defaults alone, not at those of parameter groups.

    Raises:
        ConfigError: naming the first of them.
    """
    for entry in ({"lr": lr, "weight_decay": weight_decay}, *param_groups):
        for name in ("lr", "weight_decay"):
            if not 0 <= entry.get(name, 0) < math.inf:
                pattern = entry.get("pattern")
                place = f" of {pattern} in optim.param_groups" if pattern else ""
                raise ConfigError(
                    f"optim.{name}{place} is {entry[name]}; give a finite number of at least 0."
                )


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    lr: float,
    weight_decay: float,
    param_groups: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Sort trainable parameters into optimizer groups.

    Args:
        named_parameters: of the network.
        lr: learning rate of parameters that no entry of `param_groups` names.
        weight_decay: of the same.
        param_groups: each has a regular expression `pattern` that is searched in the parameter's
            name, and `lr` or `weight_decay` or both; the first one that matches decides. One with
            `optional: true` may match nothing.

    Returns:
        Groups with `name`, `params`, `lr` and `weight_decay`; empty ones are left out.

    Raises:
        ConfigError: an entry lacks its pattern, or none of the parameters matches it.
    """
    named = list(named_parameters)
    for entry in param_groups:
        pattern = entry.get("pattern")
        needed = not (pattern and entry.get("optional"))
        if needed and not (pattern and any(re.search(pattern, name) for name, _ in named)):
            raise ConfigError(
                f"{dict(entry)} in optim.param_groups matches no parameter; its `pattern` is "
                f"searched in names such as '{named[0][0]}', and `optional: true` lets it match "
                "none."
            )
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        entry = next((entry for entry in param_groups if re.search(entry["pattern"], name)), {})
        label = str(entry.get("pattern", "default"))
        group = groups.setdefault(
            label,
            {
                "name": label,
                "params": [],
                "lr": entry.get("lr", lr),
                "weight_decay": entry.get("weight_decay", weight_decay),
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def warmup_cosine(
    optimizer: Optimizer,
    warmup_steps: int,
    total_steps: int | None = None,
    run_steps: float = math.inf,
) -> LRScheduler:
    """Linear warm-up from a hundredth of the rate, then a cosine down to zero.

    Args:
        optimizer: whose rates change.
        warmup_steps: optimizer steps of the warm-up.
        total_steps: optimizer steps to zero, the warm-up included; None for `run_steps`.
        run_steps: how often the schedule advances in the whole run, infinite without an end.

    Raises:
        ConfigError: the schedule has no end or is not longer than its warm-up, which may be 0.
    """
    steps = run_steps if total_steps is None else total_steps
    if not 0 <= warmup_steps < steps < math.inf:
        raise ConfigError(
            f"The cosine schedule has {steps} steps, and a warm-up of {warmup_steps}; give a "
            "finite number, more than optim.scheduler.warmup_steps, which is at least 0, as "
            "trainer.max_steps, trainer.max_epochs or optim.scheduler.total_steps."
        )
    warmup = LinearLR(optimizer, start_factor=0.01, total_iters=warmup_steps)
    cosine = CosineAnnealingLR(optimizer, T_max=int(steps) - warmup_steps)
    return SequentialLR(optimizer, [warmup, cosine], milestones=[warmup_steps])
