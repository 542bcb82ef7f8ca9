"""What a sweep (`uniphd-train -m`) asks of a run: one process, one number, and to fail alone."""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from uniphd.config.folders import RECORDS
from uniphd.config.launch import is_first_process
from uniphd.errors import ConfigError
from uniphd.metrics.direction import better

_FAILED = "failed.jsonl"  # in a sweep's folder, a line per trial that failed
_Result = TypeVar("_Result")


def run_trial(run: Callable[[], _Result], metric: str | None = None) -> _Result | float | None:
    """Run what may be one of a sweep's trials, which fails alone and counts as the worst.

    Args:
        run: ends the program with a sentence where the user can mend the cause.
        metric: that the sweep optimises, if any.

    Returns:
        What `run` returns; of a trial that failed, an infinity, or None without a metric.
    """
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return run()
    try:
        return run()
    except SystemExit as end:
        if not isinstance(end.code, str):  # somebody asked this process to stop
            raise
        reason = end.code.removeprefix(f"uniphd-{HydraConfig.get().job.config_name}: ")
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if is_first_process():
        print(f"trial {HydraConfig.get().job.num} failed: {reason}", file=sys.stderr)
        _note_failure(reason)
    if metric is None:
        return None
    return -math.inf if better(metric) == "max" else math.inf


class SweepFolder(Callback):
    """Refuses a sweep that cannot be meant, and ends one with the names of its failed trials."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the program where the folder has another sweep, or the search goes the wrong way."""
        folder = _sweep_folder(config.hydra)
        try:
            _refuse_taken(config, folder)
            _refuse_wrong_way(config)
        except ConfigError as error:
            sys.exit(f"{_command(config)}: {error}")
        (folder / _FAILED).unlink(missing_ok=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """End the program with an error where trials failed, in whichever process that was."""
        path = _sweep_folder(config.hydra) / _FAILED
        if not path.exists():
            return
        failed = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        given = _parse(config.hydra.overrides.task)
        fixed = {item.get_key_element() for item in given if not item.is_sweep_override()}
        names = [_name(trial, fixed) for trial in failed]
        reasons = {trial["reason"] for trial in failed}
        why = f" ({reasons.pop()})" if len(reasons) == 1 else f"; {path} says why"
        trials = "1 trial" if len(failed) == 1 else f"{len(failed)} trials"
        sys.exit(f"{_command(config)}: {trials} failed: {', '.join(names)}{why}")


def _name(trial: Mapping[str, Any], fixed: Collection[str]) -> str:
    """A trial's number, and what it was given beside the keys that all trials have in common."""
    given = _parse(trial["overrides"])
    own = [str(item.input_line) for item in given if item.get_key_element() not in fixed]
    return " ".join([f"#{trial['number']}", *own])


def _parse(overrides: Iterable[str]) -> list[Override]:
    return list(OverridesParser.create().parse_overrides(list(overrides)))


def _note_failure(reason: str) -> None:
    """Add this trial to the sweep's list, which trials in other processes write to, too."""
    hydra = HydraConfig.get()
    overrides = OmegaConf.to_container(hydra.overrides.task)
    trial = {"number": hydra.job.num, "overrides": overrides, "reason": reason}
    with (_sweep_folder(hydra) / _FAILED).open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(trial)}\n")


def _sweep_folder(hydra: DictConfig | HydraConf) -> Path:
    return Path(hydra.runtime.cwd) / str(hydra.sweep.dir)


def _command(config: DictConfig) -> str:
    return f"uniphd-{config.hydra.job.config_name}"


def _refuse_taken(config: DictConfig, folder: Path) -> None:
    """Refuse a folder with trials of an earlier sweep, unless they are to be resumed.

    Raises:
        ConfigError: naming the folder.
    """
    resumes = config.get("ckpt_path") == "last"
    trial = next((path for name in RECORDS for path in folder.rglob(name)), None)
    if trial is not None and not resumes:
        further = ", or ckpt_path=last to go on with its trials" if "ckpt_path" in config else ""
        raise ConfigError(
            f"{folder} is the folder of another sweep (there is {trial.relative_to(folder)}); "
            f"give another run_id or hydra.sweep.dir{further}."
        )


def _refuse_wrong_way(config: DictConfig) -> None:
    """Refuse a search for the worst value.

    Raises:
        ConfigError: naming the metric.
    """
    direction = OmegaConf.select(config, "hydra.sweeper.direction")
    metric = config.get("optimized_metric")
    if metric is not None and direction in ("minimize", "maximize"):
        best = better(metric)
        if not direction.startswith(best):
            raise ConfigError(
                f"hydra.sweeper.direction={direction} searches for the worst {metric}; leave it "
                f"out, or give {best}imize."
            )


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
        ConfigError: no such metric was logged, or it is undefined.
    """
    if name is None:
        return None
    if name not in metrics:
        logged = ", ".join(sorted(key for key in metrics if key.startswith("val/mean/")))
        raise ConfigError(
            f"optimized_metric={name} was not logged; choose a metric of metrics.csv"
            + (f", such as {logged}." if logged else ", with validation on.")
        )
    if not math.isfinite(metrics[name]):
        raise ConfigError(f"optimized_metric={name} is {metrics[name]} in the last validation.")
    return metrics[name]
