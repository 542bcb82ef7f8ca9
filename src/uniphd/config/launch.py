"""Who started this process, as torchrun, Slurm and Lightning say in its environment.

The processes of a training start independently. They have to agree on the run's folder before any
of them can ask another, and only the first of them may write to it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from uniphd.errors import ConfigError

_STORE_TIMEOUT = timedelta(minutes=5)  # torchrun's store is there before its processes


def run_id() -> str:
    """The name of the run's folder; the same in every process of a run, and of no other run.

    torchrun's `--rdzv-id`; Slurm's job and step and a number made from the command
    (`slurm-JOB.STEP-NUMBER`), as one step may start several commands; or the time of the start to
    the microsecond. Where the same command is started again with the same torchrun id, or Slurm
    requeues a job, the id is the same, too.

    Raises:
        ConfigError: the nodes were started one by one and nobody can tell what they have in common.
    """
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    if (given := os.environ.get("TORCHELASTIC_RUN_ID")) is not None:
        return _first_of_all(started) if _is_generated(given) else given
    if int(os.environ.get("NODE_RANK", 0)) > 0:
        raise ConfigError(
            "Training on several nodes without torchrun or Slurm needs run_id=NAME in the command, "
            "the same on every node."
        )
    if _in_slurm_step():
        step = f"{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
        return f"slurm-{step}-{_number_of_command(sys.argv[1:])}"
    return started


def was_restarted() -> bool:
    """Whether torchrun or Slurm starts this run again, after a failure or in a requeued job."""
    torchrun = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    slurm = int(os.environ.get("SLURM_RESTART_COUNT", 0)) if _in_slurm_step() else 0
    return torchrun + slurm > 0


def is_first_process() -> bool:
    """Whether this is the process that writes for all."""
    if "RANK" in os.environ:  # torchrun
        return os.environ["RANK"] == "0"
    if "LOCAL_RANK" in os.environ or "NODE_RANK" in os.environ:  # Lightning
        ranks = (os.environ.get(name, "0") for name in ("LOCAL_RANK", "NODE_RANK"))
        return all(rank == "0" for rank in ranks)
    return not _in_slurm_step() or os.environ["SLURM_PROCID"] == "0"


def require_processes(wanted: int) -> None:
    """Refuse a training that uses another number of processes than were started.

    Args:
        wanted: devices times nodes of the trainer.

    Raises:
        ConfigError: with both numbers.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher, started = "torchrun", int(os.environ["WORLD_SIZE"])
    elif _in_slurm_step():
        launcher, started = "Slurm", int(os.environ["SLURM_NTASKS"])
    else:
        return
    if started != wanted:
        raise ConfigError(
            f"{launcher} started {started} processes but the trainer uses {wanted}; give "
            "trainer=ddp, trainer.devices=PROCESSES_PER_NODE and trainer.num_nodes=NODES."
        )


def keep_one_log() -> None:
    """Let the first process alone write the log file; of the others, warnings reach the console."""
    if is_first_process():
        return
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)


def _in_slurm_step() -> bool:
    """Whether srun started this process as a task, and not as somebody's shell."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_STEP_ID" in os.environ and "SLURM_PTY_PORT" not in os.environ and not interactive


def _number_of_command(arguments: Sequence[str]) -> str:
    """Six digits for a command line; the same with and without `ckpt_path`, which resumes it."""
    lasting = [item for item in arguments if not item.lstrip("+").startswith("ckpt_path=")]
    return hashlib.blake2s("\0".join(lasting).encode(), digest_size=3).hexdigest()


def _is_generated(run_id: str) -> bool:
    """Whether torchrun made its id up: "none" or a UUID."""
    try:
        UUID(run_id)
    except ValueError:
        return run_id == "none"
    return True


def _first_of_all(value: str) -> str:
    """The value of the first process that came here, by torchrun's store."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=_STORE_TIMEOUT)
    return store.compare_set("uniphd/run_id", "", value).decode()
