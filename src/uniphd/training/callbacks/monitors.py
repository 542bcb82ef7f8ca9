"""Values that decide about a training: which way they are better, and whether they are defined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lightning import Callback, LightningModule, Trainer

from uniphd.errors import ConfigError
from uniphd.metrics.direction import DIRECTED, METRICS_PREFIX, better
from uniphd.metrics.evaluator import METRICS

_POSES = ("pose_", "PCKh", "mean_OKS")
_OF_SEVERAL = ("pick", "referring_acc", "swap")
_COMPANY = "it is of images with two or more annotated people"
_USUAL = ("pose_AP", "mIoU")  # defined wherever somebody has keypoints, or a mask


class MonitorCheck(Callback):
    """Refuses a monitor that looks for the worst value, or whose metric is undefined on the data.

    Undefined metrics are NaN, by which no validation is better than the first. They are refused in
    the first validation. This callback has to come before those that it looks at.

    Args:
        callbacks: of the training; those with a `monitor` are looked at.
        optimized_metric: what a sweep asks for, if it does.

    Raises:
        ConfigError: a callback takes the worst value for the best.
    """

    def __init__(self, callbacks: Sequence[Callback], optimized_metric: str | None = None) -> None:
        self._watched: list[tuple[str, str]] = []  # who, and what
        self._watch("optimized_metric", optimized_metric)
        for callback in callbacks:
            monitor = getattr(callback, "monitor", None)
            self._watch(type(callback).__name__, monitor, getattr(callback, "mode", None))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the learning rate schedules, too.

        Raises:
            ConfigError: one takes the worst value for the best.
        """
        for schedule in trainer.lr_scheduler_configs:
            if schedule.reduce_on_plateau:
                mode = getattr(schedule.scheduler, "mode", None)
                self._watch(type(schedule.scheduler).__name__, schedule.monitor, mode)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the values.

        Raises:
            ConfigError: one is undefined; with the name of one that is not.
        """
        if trainer.sanity_checking:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for watcher, name in self._watched:
            if name.startswith(METRICS_PREFIX) and math.isnan(values.get(name, 0.0)):
                raise ConfigError(_undefined(watcher, name, values, trainer.limit_val_batches))

    def _watch(self, watcher: str, name: str | None, mode: str | None = None) -> None:
        if name is None:
            return
        if name.startswith(DIRECTED) and mode in ("min", "max") and mode != better(name):
            raise ConfigError(
                f"{watcher} has mode={mode}, which takes the worst {name} for the best; give "
                f"mode={better(name)}, or no mode where the configuration's own fits."
            )
        self._watched.append((watcher, name))


def _undefined(watcher: str, name: str, values: Mapping[str, float], limit: float) -> str:
    """The sentence about a metric that is NaN."""
    kind, _, metric = name.removeprefix(METRICS_PREFIX).partition("/")
    order = _USUAL if metric.startswith(_POSES) else _USUAL[::-1]
    logged = (f"{METRICS_PREFIX}{kind}/{other}" for other in (*order, *METRICS))
    near = next((other for other in logged if math.isfinite(values.get(other, math.nan))), None)
    limited = "" if limit == 1.0 else f", or none among those of trainer.limit_val_batches={limit}"
    key = watcher if watcher == "optimized_metric" else "monitor"
    needed = _COMPANY if metric.removeprefix(_POSES[0]) in _OF_SEVERAL else METRICS.get(metric, "")
    return (
        f"{name}, which {watcher} follows, is undefined: the validation has nobody to measure it "
        f"on{limited} ({needed})"
        + (f"; give {key}={near}." if near else "; no metric of these people is defined.")
    )
