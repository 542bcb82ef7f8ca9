"""A run's folder belongs to one run: a second one is refused before it writes anything."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from uniphd.config.launch import is_first_process, was_restarted
from uniphd.errors import ConfigError

RECORDS = ("run.json", "metrics.json")
"""What a training and an evaluation leave in their folder, by which it is known to be theirs."""

_LAST = "last"  # of `ckpt_path`: the run's own checkpoint
_PATIENCE = 15.0  # seconds; loading processes outlive a killed run, and its lock, by five
_logger = logging.getLogger(__name__)


@contextmanager
def own_folder(config: DictConfig) -> Iterator[None]:
    """Keep the folder of a run for this run, and write into `.hydra` how it was composed.

    The first process locks the folder as long as the run lasts. What Hydra would write at the start
    is written here, because Hydra would also write it over that of another run.

    A run that torchrun or Slurm starts again goes on from its last checkpoint.

    Args:
        config: of a training or an evaluation.

    Raises:
        ConfigError: the folder is that of another run.
        OSError: it cannot be written.
    """
    folder = Path(config.paths.output_dir)
    if was_restarted() and "ckpt_path" in config:
        _go_on(config)
    if not is_first_process():
        _refuse_taken(config)
        yield
        return
    with _locked(folder):
        _refuse_taken(config)
        _record(config, folder)
        yield


def _go_on(config: DictConfig) -> None:
    """Let a run that was started again resume, where it has checkpoints and nothing is said."""
    if config.ckpt_path is None and (config.callbacks or {}).get("last") is not None:
        _logger.info("The run was started again, so it goes on from its last checkpoint.")
        config.ckpt_path = _LAST


def _refuse_taken(config: DictConfig) -> None:
    """Refuse a folder with another run's files.

    Raises:
        ConfigError: naming the folder.
    """
    for trace in _traces(config):
        if trace.exists() and not _goes_on(config, trace):
            raise ConfigError(
                f"{trace.parent} is the folder of another run (there is {trace.name}); give "
                f"another run_id or hydra.run.dir{_resuming(config)}."
            )


def _resuming(config: DictConfig) -> str:
    return ", or ckpt_path=last to go on with that run" if "ckpt_path" in config else ""


def _traces(config: DictConfig) -> Iterator[Path]:
    """Files that a run writes, and that this one would replace."""
    folder = Path(config.paths.output_dir)
    yield from (folder / name for name in RECORDS)
    for name in ("last", "best"):
        if place := OmegaConf.select(config, f"callbacks.{name}.dirpath"):
            yield Path(place) / f"{name}.ckpt"


def _goes_on(config: DictConfig, trace: Path) -> bool:
    """Whether a file is of the run that `ckpt_path` resumes."""
    checkpoint = config.get("ckpt_path")
    if checkpoint is None:
        return False
    if checkpoint != _LAST:
        return Path(checkpoint).resolve().is_relative_to(trace.parent.resolve())
    return trace.name != RECORDS[1] or trace.with_name(RECORDS[0]).exists()


def _locked(folder: Path) -> AbstractContextManager[object]:
    """Hold the folder's lock, on a file system that has locks.

    Raises:
        ConfigError: another process holds it.
    """
    path = folder / ".hydra" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path, timeout=_PATIENCE).acquire()
    except Timeout:
        raise ConfigError(
            f"Another process is writing into {folder} (it holds {path}); give another run_id or "
            "hydra.run.dir, or stop that process."
        ) from None
    except NotImplementedError:
        return nullcontext()


def _record(config: DictConfig, folder: Path) -> None:
    """Write the three files that Hydra writes."""
    if not HydraConfig.initialized():
        return
    hydra = OmegaConf.create({"hydra": HydraConfig.get()})
    contents = {"config": config, "hydra": hydra, "overrides": hydra.hydra.overrides.task}
    for name, content in contents.items():
        (folder / ".hydra" / f"{name}.yaml").write_text(OmegaConf.to_yaml(content), "utf-8")
