"""Going on with an interrupted run: which checkpoint, and what to say when the disk is full."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from uniphd.checkpoints.folder import CONFIG_KEY, read_run
from uniphd.checkpoints.older import renamed_run
from uniphd.checkpoints.safety import require_fit
from uniphd.errors import CheckpointError, ConfigError, StorageError
from uniphd.refusals import FULL_DISK
from uniphd.training.fault_tolerance.checkpoint_io import DurableCheckpointIO, previous_of
from uniphd.training.module import RefHumanModule

_logger = logging.getLogger(__name__)
# What Lightning stops without, in the middle of its work.
_NEEDED = {
    *("state_dict", "global_step", "optimizer_states", "lr_schedulers"),
    "pytorch-lightning_version",
}


def checkpoint_to_resume(config: DictConfig) -> str | None:
    """The file that `ckpt_path` means; None to train from the beginning.

    `ckpt_path=last` is the newest state in the run's own folder, and none in a folder without, so
    that one command both starts and resumes a run whose folder is given with `hydra.run.dir`.

    Raises:
        ConfigError: `ckpt_path=last` without the callback that writes it.
    """
    if config.ckpt_path != "last":
        path: str | None = config.ckpt_path
        return path
    folder = OmegaConf.select(config, "callbacks.last.dirpath")
    if folder is None:
        raise ConfigError("ckpt_path=last needs callbacks.last, which writes last.ckpt; give both.")
    last = Path(folder) / "last.ckpt"
    previous = previous_of(last)
    if last.exists() or (previous is not None and previous.exists()):
        return str(last)
    _logger.info("%s has no checkpoint yet: training starts from the beginning", folder)
    return None


def read_to_resume(path: str, files: DurableCheckpointIO, module: RefHumanModule) -> dict[str, Any]:
    """The content of a checkpoint, from which this module's training can go on.

    Args:
        path: of `checkpoint_to_resume`.
        files: reads it, or the one before where it is damaged, and keeps it for the trainer.
        module: as the configuration says.

    Raises:
        CheckpointError: there is no file that is whole; it is not of a training, or of another
            network or keypoint set.
    """
    content: Any = files.read_ahead(path)
    if not isinstance(content, Mapping) or not content.keys() >= _NEEDED:
        raise CheckpointError(
            f"{path} is not a checkpoint of uniphd-train, from which a training can go on; "
            "init_from=FILE starts from a network's weights."
        )
    renamed = renamed_run(content)
    if CONFIG_KEY in renamed:
        read_run(renamed, Path(path))[0].require_keypoints(module.model.schema.name, path)
    summary = f"{path} is of another network than this configuration's, so it cannot go on"
    require_fit(renamed["state_dict"], module.state_dict(), summary)
    return renamed


@contextmanager
def full_disk_is_an_error(folder: str) -> Iterator[None]:
    """Turn a full disk, wherever a run writes, into one sentence.

    Args:
        folder: of the run.

    Raises:
        StorageError: instead of the operating system's error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise StorageError(
            f"{error.filename or folder} cannot be written: {error.strerror}. The last good "
            "checkpoint is as it was; free space, then resume with ckpt_path."
        ) from error
