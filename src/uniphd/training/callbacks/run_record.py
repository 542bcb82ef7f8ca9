"""`run.json`: what a run was, in its folder and in each of its checkpoints."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from uniphd.checkpoints.folder import RUN_KEY
from uniphd.errors import StorageError
from uniphd.ops.info import versions
from uniphd.training.fault_tolerance.files import replacing

END, FINISHED = "end", "finished"
"""Where `run.json` says how the run ended, and what of one that is complete."""

_CLONE = Path(__file__).resolve().parents[4]  # where the package is used from a clone
_LIBRARIES = ("torchvision", "lightning", "timm", "transformers", "numpy")


class RunRecord(Callback):
    """Writes `run.json` before the first step, and the same into every checkpoint.

    How the run ended is added to the file at its end: `FINISHED`, or a sentence; null before, and
    for ever where the process was killed.

    Loggers that have a place for it, such as W&B, get the configuration.

    The contents are those of `describe_run` and `devices`: the names of this machine's, and how
    many processes train together.

    Args:
        folder: of the run.
        config: the run's resolved configuration, of plain values.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any]) -> None:
        self.path = Path(folder) / "run.json"
        self.record = describe_run(config)
        self._began = False

    def keep(self, settings: Mapping[str, Any]) -> None:
        """Record what counts in a resumed run where it was asked for something else.

        Args:
            settings: by key, such as "optim.lr" or "optim.param_groups.0.lr".
        """
        for key, value in settings.items():
            *path, last = (int(part) if part.isdigit() else part for part in key.split("."))
            node: Any = self.record["config"]
            for part in path:
                node = node[part]
            node[last] = value

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the devices, which the trainer chose, write the file, and tell the loggers."""
        self.record["devices"] = {
            "names": _device_names(trainer, self.record["versions"]["processor"]),
            "processes": trainer.world_size,
        }
        self._began = True
        self._write(trainer, None)
        for logger in trainer.loggers:
            logger.log_hyperparams(self.record["config"])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write that the training is complete."""
        self._write(trainer, FINISHED)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write why it is not; what went wrong is said elsewhere, even on a full disk."""
        if self._began:
            with contextlib.suppress(StorageError):
                self._write(trainer, f"{type(exception).__name__}: {exception}")

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the record; plain values, which `weights_only` loading accepts."""
        checkpoint[RUN_KEY] = self.record

    def _write(self, trainer: Trainer, end: str | None) -> None:
        """Replace the file, with what is known about the run's end."""
        if trainer.is_global_zero:
            text = json.dumps({**self.record, END: end}, indent=2, ensure_ascii=False)
            with replacing(self.path) as file:
                file.write(f"{text}\n".encode())


def _device_names(trainer: Trainer, processor: str) -> list[str]:
    """Names of the devices that train on this machine."""
    kind = trainer.strategy.root_device.type
    if kind == "cuda":
        return [torch.cuda.get_device_name(index) for index in trainer.device_ids]
    return [processor if kind == "cpu" else kind]


def describe_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be known to repeat a run, or to explain why it cannot be.

    Args:
        config: the resolved configuration, of plain values.

    Returns:
        `config`, `git` (see `git_state`), `versions`, `command` and `date` (UTC, ISO 8601).
    """
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "git": git_state(_CLONE),
        "versions": {**versions(), **{name: metadata.version(name) for name in _LIBRARIES}},
        "config": dict(config),
    }


def git_state(root: Path) -> dict[str, Any] | None:
    """The commit of a clone, and whether its files differ from it.

    Args:
        root: top folder of the clone.

    Returns:
        `commit`, and `dirty`: whether there are changes or new files that git does not ignore. None
        where `root` is not the top of a clone, or git is missing.
    """
    try:
        if _git(root, "rev-parse", "--show-prefix"):  # a folder inside somebody else's clone
            return None
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()
