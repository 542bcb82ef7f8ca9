"""Going on with an interrupted run: which checkpoint, and what to say when the disk is full."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from uniphd.errors import ConfigError, StorageError
from uniphd.training.checkpoint_io import previous_of

_logger = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        if error.errno not in _FULL:
            raise
        raise StorageError(
            f"{error.filename or folder} cannot be written: {error.strerror}. The last good "
            "checkpoint is as it was; free space, then resume with ckpt_path."
        ) from error
