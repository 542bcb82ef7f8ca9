"""What a sweep (`uniphd-train -m`) asks of a training: one process, and one number in return."""

from __future__ import annotations

from collections.abc import Mapping

from hydra.types import RunMode

from uniphd.errors import ConfigError


def refuse_relaunch(mode: RunMode | None, processes: int, started_outside: bool) -> None:
    """Refuse a sweep over trainings for which Lightning starts further processes itself.

    Lightning starts them by running the command again, which in a sweep would be the whole sweep.

    Args:
        mode: Hydra's mode; None is that of a single run.
        processes: over all nodes that the training asks for, one per device.
        started_outside: whether something else (Slurm, torchrun) starts them.

    Raises:
        ConfigError: naming the ways that work.
    """
    if mode != RunMode.MULTIRUN or processes <= 1 or started_outside:
        return
    raise ConfigError(
        f"A sweep (-m) cannot start the {processes} processes of a training on several devices; "
        "use trainer.devices=1 (launcher=joblib runs several trainings beside each other), or "
        "launcher=slurm, which starts one task per GPU itself, or one uniphd-train after the other "
        "in a shell loop."
    )


def sweep_result(metrics: Mapping[str, float], name: str | None) -> float | None:
    """What a training tells a sweeper: the metric `optimized_metric`, or None where none is asked.

    Args:
        metrics: last logged values by name.
        name: of the metric.

    Raises:
        ConfigError: no such metric was logged.
    """
    if name is None:
        return None
    if name not in metrics:
        logged = ", ".join(sorted(key for key in metrics if key.startswith("val/mean/")))
        raise ConfigError(
            f"optimized_metric={name} was not logged; choose a metric of metrics.csv"
            + (f", such as {logged}." if logged else ", with validation on.")
        )
    return metrics[name]
