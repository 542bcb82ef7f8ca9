"""A run's folder belongs to one run."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from tests.composition import compose_eval, compose_train
from uniphd.config import folders
from uniphd.config.folders import own_folder
from uniphd.errors import ConfigError


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variables of any launcher, and without patience."""
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(folders, "_PATIENCE", 0.2)


def training(folder: Path, *overrides: str) -> DictConfig:
    return compose_train(folder, "data.root=unused", *overrides)


def enter(config: DictConfig) -> None:
    with own_folder(config):
        pass


def run_in(folder: Path, name: str = "run.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("{}")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    with own_folder(training(tmp_path / "new")):
        assert (tmp_path / "new").is_dir()


def test_a_start_that_failed_before_the_run_leaves_the_folder_free(tmp_path: Path) -> None:
    for _ in range(2):
        enter(training(tmp_path))


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
@pytest.mark.parametrize(
    "second",
    [
        lambda folder: training(folder),
        lambda folder: training(folder, f"ckpt_path={folder.parent}/other/checkpoints/last.ckpt"),
        lambda folder: training(folder, f"init_from={folder}/checkpoints/last.ckpt"),
        lambda folder: compose_eval(folder, "ckpt=unused"),
    ],
    ids=["training", "resumes another run", "starts from it", "evaluation"],
)
def test_a_second_run_is_refused_and_changes_nothing(
    tmp_path: Path, second: object, name: str
) -> None:
    folder = run_in(tmp_path / "run", name)
    config = second(folder)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=rf"run is the folder of another run .*{name}.*run_id"):
        enter(config)
    assert {key for key in files(folder) if key != "lock"} == {name}


@pytest.mark.parametrize("rank", ["0", "1"])
def test_every_process_of_a_second_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(ConfigError, match="another run"):
        enter(training(run_in(tmp_path)))


@pytest.mark.parametrize("checkpoint", ["last", "{folder}/checkpoints/last.ckpt"])
def test_a_run_goes_on_in_its_folder(tmp_path: Path, checkpoint: str) -> None:
    enter(training(run_in(tmp_path), f"ckpt_path={checkpoint.format(folder=tmp_path)}"))


def test_a_training_does_not_go_on_with_an_evaluation(tmp_path: Path) -> None:
    config = training(run_in(tmp_path, "metrics.json"), "ckpt_path=last")
    with pytest.raises(ConfigError, match=r"there is metrics\.json"):
        enter(config)


@pytest.mark.parametrize("name", ["last", "best"])
def test_checkpoints_that_are_kept_elsewhere_are_not_replaced(tmp_path: Path, name: str) -> None:
    kept = run_in(tmp_path / "kept", f"{name}.ckpt")
    elsewhere = f"callbacks.{name}.dirpath={kept}"
    with pytest.raises(ConfigError, match=rf"kept is .*{name}\.ckpt"):
        enter(training(tmp_path / "run", elsewhere))
    enter(training(tmp_path / "run", elsewhere, f"ckpt_path={kept}/{name}.ckpt"))


def hold(folder: Path, held: Event, done: Event) -> None:
    with own_folder(training(folder)):
        held.set()
        done.wait(60)


def test_two_runs_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, held, done))
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(ConfigError, match="Another process is writing into"):
            enter(training(tmp_path, "ckpt_path=last"))
    finally:
        done.set()
        other.join()
    enter(training(tmp_path, "ckpt_path=last"))  # the lock goes with the process


def test_other_processes_of_a_run_do_not_wait_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_folder(training(tmp_path)):
        monkeypatch.setenv("LOCAL_RANK", "1")
        enter(training(tmp_path))


@pytest.mark.parametrize(
    "variables",
    [
        {"TORCHELASTIC_RESTART_COUNT": "1"},
        {"SLURM_RESTART_COUNT": "2", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0"},
    ],
    ids=["torchrun", "slurm"],
)
def test_what_a_launcher_starts_again_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = training(run_in(tmp_path))
    with own_folder(config):
        assert config.ckpt_path == "last"


@pytest.mark.slow
def test_the_refusal_comes_before_hydra_writes(tmp_path: Path) -> None:
    """One sentence; the records and the log of the first run are as they were."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "uniphd.cli.train", f"hydra.run.dir={folder}"]

    def start(*overrides: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "data.root=nowhere", *overrides], capture_output=True, text=True
        )

    assert start("seed=1").returncode == 1  # no data, so nothing but the records
    hydra = folder / ".hydra"
    assert {path.name for path in hydra.iterdir()} == {
        *("config.yaml", "hydra.yaml", "overrides.yaml", "lock")
    }
    assert OmegaConf.load(hydra / "config.yaml").seed == 1
    assert "seed=1" in OmegaConf.load(hydra / "overrides.yaml")
    assert "hydra.run.dir=" in (hydra / "hydra.yaml").read_text()
    before = files(run_in(folder))
    second = start("seed=2")
    assert second.returncode == 1
    assert second.stderr.startswith(f"uniphd-train: {folder} is the folder of another run")
    assert len(second.stderr.splitlines()) == 1
    assert files(folder) == before
