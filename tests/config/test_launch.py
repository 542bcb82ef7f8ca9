"""What the processes of a run agree on, whoever starts them."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from tests.composition import TINY, compose_train
from tests.processes import run_processes
from uniphd.cli.train import main
from uniphd.config import launch
from uniphd.data.resumable import STOP_SIGNALS
from uniphd.errors import ConfigError

EXAMPLES = Path(__file__).parents[2] / "examples"
TORCHRUN = {"TORCHELASTIC_RUN_ID": "swint-1", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_NAME": "uniphd",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "1",
}
TIME = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without the variables of any launcher."""
    for name in os.environ:
        if name.startswith(("SLURM_", "TORCHELASTIC_")):
            monkeypatch.delenv(name)
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def started_with(environment: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)


def test_alone_the_id_is_the_time(environment: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(TIME, launch.run_id())
    assert launch.is_first_process()
    launch.require_processes(4)  # which Lightning starts


def test_torchruns_own_name_is_the_id(environment: pytest.MonkeyPatch) -> None:
    started_with(environment, **TORCHRUN)
    assert launch.run_id() == "swint-1"
    assert not launch.is_first_process()
    started_with(environment, RANK="0")
    assert launch.is_first_process()


@pytest.mark.parametrize("generated", ["none", "0b6ff3b0-6b5e-4d6c-9d5e-7f2d4f7a9c11"])
def test_without_a_name_the_first_process_says_the_time(
    environment: pytest.MonkeyPatch, generated: str
) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    started_with(environment, **TORCHRUN, **address)
    environment.setenv("TORCHELASTIC_RUN_ID", generated)
    first = launch.run_id()
    assert re.fullmatch(TIME, first)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2099, 1, 1) + timedelta(seconds=1)

    environment.setattr(launch, "datetime", Later)
    assert launch.run_id() == first


def test_slurms_job_and_step_are_the_id(environment: pytest.MonkeyPatch) -> None:
    started_with(environment, **SLURM)
    assert re.fullmatch(r"slurm-4711\.0-[0-9a-f]{6}", launch.run_id())
    assert not launch.is_first_process()
    started_with(environment, SLURM_PROCID="0")
    assert launch.is_first_process()


def test_two_starts_in_one_second_have_two_ids(environment: pytest.MonkeyPatch) -> None:
    assert len({launch.run_id() for _ in range(5)}) == 5


def test_every_command_of_a_slurm_step_has_its_id(environment: pytest.MonkeyPatch) -> None:
    """A loop of seeds; ranks and a requeued job agree, also when ckpt_path resumes the run."""
    started_with(environment, **SLURM)

    def name(*arguments: str) -> str:
        environment.setattr(sys, "argv", ["uniphd-train", *arguments])
        return launch.run_id()

    assert len({name("data.root=DIR", f"seed={seed}") for seed in range(3)}) == 3
    first = name("data.root=DIR", "seed=0")
    started_with(environment, SLURM_PROCID="0", SLURM_RESTART_COUNT="1")
    assert name("data.root=DIR", "seed=0") == first
    assert name("data.root=DIR", "ckpt_path=last", "seed=0") == first
    assert name("data.root=DIRseed=0") != first


def test_who_was_started_again(environment: pytest.MonkeyPatch) -> None:
    for count, again in (("0", False), ("1", True)):
        started_with(environment, TORCHELASTIC_RESTART_COUNT=count)
        assert launch.was_restarted() is again
    environment.delenv("TORCHELASTIC_RESTART_COUNT")
    started_with(environment, SLURM_RESTART_COUNT="1")  # a shell in a job that was requeued
    assert not launch.was_restarted()
    started_with(environment, **SLURM)
    assert launch.was_restarted()


@pytest.mark.parametrize(
    "variables", [{"SLURM_JOB_NAME": "bash"}, {"SLURM_JOB_NAME": "zsh", "SLURM_PTY_PORT": "4"}]
)
def test_a_shell_in_a_slurm_job_is_no_launcher(
    environment: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    started_with(environment, **{**SLURM, **variables})
    assert re.fullmatch(TIME, launch.run_id())
    assert launch.is_first_process()


def test_lightnings_own_processes(environment: pytest.MonkeyPatch) -> None:
    started_with(environment, NODE_RANK="0", LOCAL_RANK="0")
    assert launch.is_first_process()
    started_with(environment, LOCAL_RANK="1")
    assert not launch.is_first_process()
    started_with(environment, NODE_RANK="1", LOCAL_RANK="0")
    assert not launch.is_first_process()
    with pytest.raises(ConfigError, match="run_id=NAME in the command, the same on every node"):
        launch.run_id()


def test_every_started_process_has_to_take_part(environment: pytest.MonkeyPatch) -> None:
    started_with(environment, **TORCHRUN)
    launch.require_processes(2)
    with pytest.raises(ConfigError, match="torchrun started 2 processes but the trainer uses 1"):
        launch.require_processes(1)
    environment.delenv("TORCHELASTIC_RUN_ID")
    environment.delenv("RANK")
    started_with(environment, **SLURM)
    with pytest.raises(ConfigError, match="Slurm started 2 processes but the trainer uses 4"):
        launch.require_processes(4)


def test_only_the_first_process_writes_the_log(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = logging.RootLogger(logging.INFO)
    environment.setattr(logging, "getLogger", lambda: root)
    for rank in ("0", "1"):
        started_with(environment, **{**TORCHRUN, "RANK": rank})
        handler = logging.FileHandler(tmp_path / "train.log", delay=True)
        root.addHandler(handler)
        launch.keep_one_log()
        root.info("from %s", rank)
        root.removeHandler(handler)
        handler.close()
    assert (tmp_path / "train.log").read_text() == "from 0\n"
    assert root.level == logging.WARNING


def run_command(folder: Path, launcher: dict[str, str], arguments: tuple[str, ...]) -> None:
    """`uniphd-train` as a launcher's process."""
    rank = os.environ["RANK"]
    if "TORCHELASTIC_RUN_ID" not in launcher:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
            del os.environ[name]
    ranks = {name: rank for name, value in launcher.items() if value == "rank"}
    os.environ.update({**launcher, **ranks})
    os.chdir(folder)
    sys.argv = ["uniphd-train", *arguments]
    main()


RUN = (
    *TINY,
    *("data=synthetic", "data.size=[96,96]", "data.train_scenes=2", "data.val_scenes=1"),
    *(
        "data.eval_transform.size=96",
        "data.eval_transform.max_size=96",
        "data.num_render_workers=1",
    ),
    *("data.batch_size=1", "prompt=point", "optim.scheduler.warmup_steps=1"),
    *("trainer.max_steps=2", "trainer.val_check_interval=2", "trainer.log_every_n_steps=1"),
    *("trainer.enable_progress_bar=false", "callbacks.progress_bar=null"),
    *("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "options", "name"),
    [
        pytest.param({"TORCHELASTIC_RUN_ID": "swint-1"}, (), "swint-1", id="torchrun"),
        pytest.param(
            {**SLURM, "SLURM_PROCID": "rank", "SLURM_LOCALID": "rank"},
            (),
            "slurm-4711.0-*",
            id="slurm",
        ),
        pytest.param(
            {"NODE_RANK": "rank"},
            ("trainer.devices=1", "trainer.num_nodes=2", "run_id=by-hand"),
            "by-hand",
            id="node by node",
        ),
    ],
)
def test_one_folder_one_log_one_wandb_run(
    tmp_path: Path, launcher: dict[str, str], options: tuple[str, ...], name: str
) -> None:
    arguments = (*RUN, *options, "logger=wandb", "logger.wandb.offline=true")
    results = run_processes(run_command, 2, tmp_path, launcher, arguments)
    assert results == [None, None]
    (folder,) = (tmp_path / "outputs" / "tiny_refhuman").iterdir()
    assert folder.match(name)
    assert {path.name for path in folder.iterdir()} == {
        *(".hydra", "checkpoints", "csv", "figures", "run.json", "wandb"),
        "train.log",
    }
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 1
    log = (folder / "train.log").read_text()
    assert log.count("synthetic images (train): ") == 1  # said by one process
    assert not (tmp_path / "wandb").exists()


def run_slurm_script(folder: Path, status: int) -> subprocess.CompletedProcess[str]:
    """The sample script, with an srun and an scontrol that say what they were asked for."""
    for name, end in {"srun": status, "scontrol": 0}.items():
        (folder / name).write_text(f"#!/bin/sh\nprintf '%s\\n' {name} \"$@\"\nexit {end}\n")
        (folder / name).chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    slurm = {**SLURM, "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4", "SLURM_CPUS_PER_TASK": "8"}
    return subprocess.run(
        ["bash", str(EXAMPLES / "slurm.sh"), "experiment=swint_refhuman", "data.root=DIR"],
        env={**os.environ, **slurm, "PATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("status", "requeues"), [(0, False), (1, False), (137, False), (138, True), (143, True)]
)
def test_the_slurm_script_requeues_what_was_stopped(
    tmp_path: Path, status: int, requeues: bool
) -> None:
    done = run_slurm_script(tmp_path, status)
    assert done.returncode == status
    assert done.stdout.endswith("scontrol\nrequeue\n4711\n") == requeues
    assert ("scontrol" in done.stdout) == requeues


def test_slurm_warns_with_a_signal_that_the_training_follows() -> None:
    options = re.findall(r"^#SBATCH --(.*)$", (EXAMPLES / "slurm.sh").read_text(), re.MULTILINE)
    (warning,) = [option for option in options if option.startswith("signal=")]
    name, _, seconds = warning.removeprefix("signal=").partition("@")
    assert getattr(signal, f"SIG{name}") in STOP_SIGNALS
    assert int(seconds) >= 60
    assert {"requeue", "open-mode=append"} < set(options)


def test_the_slurm_script_starts_a_training_that_composes(tmp_path: Path) -> None:
    words = run_slurm_script(tmp_path, 0).stdout.split()[1:]
    assert words[:2] == ["--kill-on-bad-exit=1", "uniphd-train"]
    config = compose_train(None, *words[2:])
    assert (config.trainer.num_nodes, config.trainer.devices) == (2, 4)
    assert (config.data.num_workers, config.ckpt_path) == (8, "last")


def test_the_torchrun_script_starts_a_training_that_composes(tmp_path: Path) -> None:
    torchrun = tmp_path / "torchrun"
    torchrun.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    torchrun.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    nodes = {"RUN": "swint-1", "HEAD": "node1", "NODES": "2", "PER_NODE": "4", "PATH": path}
    words = subprocess.run(
        ["bash", str(EXAMPLES / "torchrun.sh"), "experiment=swint_refhuman", "data.root=DIR"],
        env={**os.environ, **nodes},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-id=swint-1"} < set(words)
    assert "--rdzv-endpoint=node1:29500" in words
    config = compose_train(None, *words[words.index("uniphd.cli.train") + 1 :])
    assert (config.trainer.num_nodes, config.trainer.devices) == (2, 4)
