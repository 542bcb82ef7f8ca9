"""`run.json`: what a run was, in its folder and in each of its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from uniphd.training.fault_tolerance.files import replacing
from uniphd.training.provenance import describe_run

RUN_KEY = "uniphd_run"
"""Where a training checkpoint holds the contents of `run.json`."""


class RunRecord(Callback):
    """Writes `run.json` before the first step, and the same into every checkpoint.

    Loggers that have a place for it, such as W&B, get the configuration.

    The contents are those of `uniphd.training.provenance.describe_run` and `devices`: the names of
    this machine's, and how many processes train together.

    Args:
        folder: of the run.
        config: the run's resolved configuration, of plain values.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any]) -> None:
        self.path = Path(folder) / "run.json"
        self.record = describe_run(config)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the devices, which the trainer chose, write the file, and tell the loggers."""
        self.record["devices"] = {
            "names": _device_names(trainer, self.record["versions"]["processor"]),
            "processes": trainer.world_size,
        }
        if trainer.is_global_zero:
            text = json.dumps(self.record, indent=2, ensure_ascii=False)
            with replacing(self.path) as file:
                file.write(f"{text}\n".encode())
        for logger in trainer.loggers:
            logger.log_hyperparams(self.record["config"])

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the record; plain values, which `weights_only` loading accepts."""
        checkpoint[RUN_KEY] = self.record


def _device_names(trainer: Trainer, processor: str) -> list[str]:
    """Names of the devices that train on this machine."""
    kind = trainer.strategy.root_device.type
    if kind == "cuda":
        return [torch.cuda.get_device_name(index) for index in trainer.device_ids]
    return [processor if kind == "cpu" else kind]
