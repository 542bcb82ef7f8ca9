"""Smoke runs, sweeps, and what a sweep asks of a training."""

from __future__ import annotations

import csv
import math
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tests.cli.test_report import run_report
from tests.composition import compose_train
from uniphd.config.compose import config_dir, fill_resolvers
from uniphd.config.sweeps import SweepFolder, refuse_relaunch, run_trial, sweep_result
from uniphd.errors import ConfigError


def needs(plugin: str) -> pytest.MarkDecorator:
    missing = find_spec("hydra_plugins") is None or find_spec(f"hydra_plugins.{plugin}") is None
    return pytest.mark.skipif(missing, reason=f"needs {plugin}: pip install 'uniphd[sweep]'")


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


ROOT = "++data.root=unused"
SMOKE = "debug=smoke"
SIZED_GROUPS = ("data", "optim", "loss")


def assert_small(config: DictConfig) -> None:
    """Few steps, within every warm-up, and a validation among them."""
    OmegaConf.resolve(config.optim)
    steps = config.trainer.max_steps
    assert steps <= 20
    assert config.trainer.val_check_interval <= steps
    assert config.trainer.limit_val_batches <= 4
    assert config.trainer.accelerator == "cpu"
    scheduler = config.optim.scheduler or {}
    assert scheduler.get("warmup_steps", 0) < steps, "add a file to configs/debug/sizes/optim/"
    if config.loss.warmup is not None:
        assert config.loss.warmup.steps < steps, "add a file to configs/debug/sizes/loss/"
    sizes = ("train_scenes", "val_scenes", "limit_people", "limit_val_people")
    given = [config.data[key] for key in sizes if key in config.data]
    assert given, "add a file to configs/debug/sizes/data/"
    assert max(given) <= 64


@pytest.mark.parametrize("experiment", names("experiment"))
def test_a_smoke_run_is_small_with_any_experiment(experiment: str) -> None:
    plain = compose_train(None, f"experiment={experiment}", ROOT)
    smoke = compose_train(None, f"experiment={experiment}", ROOT, SMOKE)
    assert_small(smoke)
    assert plain.trainer.max_steps != smoke.trainer.max_steps
    for part in ("data", "optim", "trainer", "loss"):
        assert (smoke[part] or {}).keys() == (plain[part] or {}).keys()
    assert smoke.keys() == plain.keys()


@pytest.mark.parametrize(
    "choice",
    [
        f"{group}={name}"
        for group in SIZED_GROUPS
        for name in names(group)
        if f"{group}={name}" != "data=coco"  # nothing is trained on it
    ],
)
def test_a_smoke_run_is_small_with_any_choice(choice: str) -> None:
    assert_small(compose_train(None, choice, ROOT, SMOKE))


def test_the_command_line_has_the_last_word() -> None:
    given = ("trainer.max_steps=7", "data.train_scenes=9")
    config = compose_train(None, "experiment=synthetic_cpu", SMOKE, *given)
    assert (config.trainer.max_steps, config.data.train_scenes) == (7, 9)
    assert (config.trainer.val_check_interval, config.data.val_scenes) == (10, 12)
    assert (config.optim.scheduler.warmup_steps, config.loss.warmup.steps) == (5, 5)


def test_only_a_smoke_run_is_small() -> None:
    config = compose_train(None, "experiment=synthetic_cpu")
    assert min(config.trainer.max_steps, config.data.train_scenes) >= 1000
    assert min(config.optim.scheduler.warmup_steps, config.loss.warmup.steps) >= 100


def compose_with_hydra(*overrides: str) -> DictConfig:
    fill_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", [*overrides, ROOT], return_hydra_config=True)


@needs("hydra_optuna_sweeper")
def test_the_search_space_is_of_keys_that_every_experiment_has() -> None:
    config = compose_with_hydra("sweep=optuna", "seed=3")
    sweeper = config.hydra.sweeper
    assert sweeper._target_.endswith("OptunaSweeper")
    assert (sweeper.direction, sweeper.sampler.seed) == ("maximize", 3)
    assert config.optimized_metric == "val/mean/pose_AP"
    assert config.hydra.mode == RunMode.MULTIRUN
    for experiment in names("experiment"):
        run = compose_train(None, f"experiment={experiment}", ROOT)
        assert all(isinstance(OmegaConf.select(run, key), float) for key in sweeper.params)


@needs("hydra_optuna_sweeper")
def test_a_search_optimises_what_the_experiment_watches() -> None:
    config = compose_with_hydra("sweep=optuna", "experiment=swint_refhuman_no_pose")
    assert config.optimized_metric == config.monitor == "val/mean/mask_AP"


@needs("hydra_optuna_sweeper")
def test_a_search_minimizes_a_loss() -> None:
    config = compose_with_hydra("sweep=optuna", "optimized_metric=train/loss")
    assert config.hydra.sweeper.direction == "minimize"
    assert config.callbacks.best.mode == "max"


@needs("hydra_joblib_launcher")
def test_joblib_launcher() -> None:
    launcher = compose_with_hydra("launcher=joblib").hydra.launcher
    assert launcher._target_.endswith("JoblibLauncher")
    assert launcher.n_jobs == 2


@needs("hydra_submitit_launcher")
def test_slurm_has_one_task_per_gpu() -> None:
    config = compose_with_hydra("launcher=slurm", "trainer=ddp", "trainer.devices=4")
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert launcher.tasks_per_node == launcher.gpus_per_node == 4


def test_the_wandb_sweep_gives_overrides_that_compose() -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load((config_dir() / "wandb" / "sweep.yaml").read_text())
    chosen = {
        key: {"value": parameter.get("value", parameter.get("values", [parameter.get("min")])[0])}
        for key, parameter in sweep["parameters"].items()
    }
    values = {"program": [sweep["program"]], **create_sweep_command_args({"args": chosen})}
    command = [
        word
        for part in create_sweep_command(sweep["command"])
        for word in values[part.strip("${}")]  # as wandb's agent fills them in
    ]
    assert command[0] == "uniphd-train"
    config = compose_train(None, *command[1:])
    assert config.name == "swint_refhuman"
    assert config.optim.lr == sweep["parameters"]["optim.lr"]["min"]
    assert "wandb" in config.logger


@pytest.mark.parametrize(
    ("mode", "processes", "started_outside"),
    [
        (RunMode.RUN, 4, False),
        (None, 4, False),
        (RunMode.MULTIRUN, 1, False),
        (RunMode.MULTIRUN, 4, True),
    ],
)
def test_what_works_is_not_refused(
    mode: RunMode | None, processes: int, started_outside: bool
) -> None:
    refuse_relaunch(mode, processes, started_outside)


def test_a_sweep_over_several_devices_is_refused_with_what_works() -> None:
    with pytest.raises(ConfigError, match=r"4 processes.*devices=1.*launcher=slurm.*loop"):
        refuse_relaunch(RunMode.MULTIRUN, 4, started_outside=False)


def test_a_sweep_gets_the_metric_that_it_asks_for() -> None:
    metrics = {"val/mean/mIoU": 0.5, "val/text/mIoU": 0.25}
    assert sweep_result(metrics, "val/text/mIoU") == 0.25
    assert sweep_result(metrics, None) is None
    with pytest.raises(ConfigError, match=r"optimized_metric=mIoU .*such as val/mean/mIoU\."):
        sweep_result(metrics, "mIoU")
    with pytest.raises(ConfigError, match="with validation on"):
        sweep_result({"train/loss": 1.0}, "val/mean/mIoU")
    with pytest.raises(ConfigError, match="optimized_metric=train/loss is nan"):
        sweep_result({"train/loss": math.nan}, "train/loss")


def trial_of(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int, *given: str) -> None:
    """Let Hydra say that this process runs a trial of a sweep."""
    hydra = {
        "mode": RunMode.MULTIRUN,
        "job": {"num": number, "config_name": "train"},
        "overrides": {"task": list(given)},
        "runtime": {"cwd": str(folder.parent)},
        "sweep": {"dir": folder.name},
    }
    config = OmegaConf.create(hydra)
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: config))


def ends_with(code: str | int) -> Callable[[], float]:
    def run() -> float:
        sys.exit(code)

    return run


@pytest.mark.parametrize(
    ("metric", "worst"), [("val/mean/mIoU", -math.inf), ("train/loss", math.inf), (None, None)]
)
def test_a_failed_trial_counts_as_the_worst_and_is_named_at_the_end(
    metric: str | None,
    worst: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    master = sweep_config(folder, "optim.lr=1,2", "seed=3")
    SweepFolder().on_multirun_start(master)
    trial_of(monkeypatch, folder, 0, "optim.lr=1", "seed=3")
    assert run_trial(lambda: 0.5, metric) == 0.5
    SweepFolder().on_multirun_end(master)  # nothing to say
    trial_of(monkeypatch, folder, 1, "optim.lr=2", "seed=3")
    assert run_trial(ends_with("uniphd-train: Step 3 is not finite."), metric) == worst
    assert capsys.readouterr().err == "trial 1 failed: Step 3 is not finite.\n"
    sentence = r"^uniphd-train: 1 trial failed: #1 optim.lr=2 \(Step 3 is not finite\.\)$"
    with pytest.raises(SystemExit, match=sentence):
        SweepFolder().on_multirun_end(master)

    def crash() -> float:
        raise RuntimeError("out of\nmemory")

    trial_of(monkeypatch, folder, 2, "optim.lr=4", "seed=3")
    assert run_trial(crash, metric) == worst
    assert "Traceback" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"2 trials failed: #1 optim.lr=2, #2 optim.lr=4; .*why$"):
        SweepFolder().on_multirun_end(master)
    SweepFolder().on_multirun_start(master)  # resumed
    SweepFolder().on_multirun_end(master)


def sweep_config(folder: Path, *overrides: str) -> DictConfig:
    """A sweep's own configuration."""
    config = compose_with_hydra(f"hydra.sweep.dir={folder}", "hydra.runtime.cwd=/")
    config.hydra.overrides.task = list(overrides)
    config.hydra.job.config_name = "train"
    return config


def test_a_sweep_that_is_stopped_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial_of(monkeypatch, tmp_path, 0)
    with pytest.raises(SystemExit, match="143"):
        run_trial(ends_with(143), "val/mean/mIoU")
    assert not list(tmp_path.iterdir())


def test_a_sweep_has_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    config = sweep_config(tmp_path)
    SweepFolder().on_multirun_start(config)  # that trial failed before it began
    (tmp_path / "0" / "run.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"^uniphd-train: .* is the folder of another sweep"):
        SweepFolder().on_multirun_start(config)
    config.ckpt_path = "last"
    SweepFolder().on_multirun_start(config)


@needs("hydra_optuna_sweeper")
def test_a_search_for_the_worst_is_refused(tmp_path: Path) -> None:
    wrong = ("sweep=optuna", "optimized_metric=train/loss", "hydra.sweeper.direction=maximize")
    config = compose_with_hydra(*wrong, f"hydra.sweep.dir={tmp_path}", "hydra.runtime.cwd=/")
    with pytest.raises(SystemExit, match="worst train/loss; leave it out, or give minimize"):
        SweepFolder().on_multirun_start(config)


SMALLER = (
    "experiment=synthetic_cpu",
    SMOKE,
    *("sizes.hidden_dim=32", "sizes.num_heads=4", "sizes.feedforward_dim=32"),
    *(
        "sizes.encoder_layers=1",
        "data.train_scenes=6",
        "data.val_scenes=3",
        "data.num_render_workers=1",
    ),
    *("data.batch_size=4", "trainer.max_steps=3", "trainer.val_check_interval=3"),
    *("optim.scheduler.warmup_steps=1", "loss.warmup.steps=1", "print_summary=false"),
    *("trainer.enable_progress_bar=false", "callbacks.progress_bar=null"),
    *("callbacks.contact_sheet=null", "callbacks.curves=null"),
)


def sweep(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uniphd.cli.train", "-m", f"hydra.sweep.dir={folder}"]
    return subprocess.run(
        [*command, *SMALLER, *overrides], capture_output=True, text=True, cwd=folder.parent
    )


def last_value(run: Path, metric: str) -> float:
    with (run / "csv" / "metrics.csv").open(newline="") as file:
        return [float(row[metric]) for row in csv.DictReader(file) if row[metric]][-1]


@pytest.mark.slow
def test_a_grid_of_six_runs_gives_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    result = sweep(folder, "prompt=text,point,scribble", "optim.lr=1e-4,3e-4")
    assert result.returncode == 0, result.stderr
    markdown, rows = run_report(tmp_path / "report", folder)
    assert [(row["run"], row["prompt"], row["optim.lr"]) for row in rows] == [
        ("0", "text", "0.0001"),
        ("1", "text", "0.0003"),
        ("2", "point", "0.0001"),
        ("3", "point", "0.0003"),
        ("4", "scribble", "0.0001"),
        ("5", "scribble", "0.0003"),
    ]
    for row in rows:
        metric = f"{row['prompt']}/mIoU"
        expected = last_value(folder / row["run"], f"val/{metric}")
        assert float(row[metric]) == pytest.approx(expected, rel=1e-5)
    assert markdown[0][-3:] == ["text", "point", "scribble"]


@pytest.mark.slow
@needs("hydra_optuna_sweeper")
def test_optuna_returns_the_best_of_four_trials(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    metric = "val/mean/mIoU"
    result = sweep(folder, "sweep=optuna", "hydra.sweeper.n_trials=4", f"optimized_metric={metric}")
    assert result.returncode == 0, result.stderr
    best = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    values = {run.name: last_value(run, metric) for run in folder.iterdir() if run.is_dir()}
    assert sorted(values) == ["0", "1", "2", "3"]
    number = max(values, key=values.__getitem__)
    assert best["best_value"] == pytest.approx(values[number], rel=1e-6)
    config = OmegaConf.load(folder / number / ".hydra" / "config.yaml")
    for key, value in best["best_params"].items():
        assert OmegaConf.select(config, key) == pytest.approx(float(value))


@pytest.mark.slow
@needs("hydra_joblib_launcher")
def test_runs_beside_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    timm = ("backbone=timm", "backbone.name=convnext_atto", "backbone.pretrained=false")
    result = sweep(folder, "launcher=joblib", "prompt=point", "seed=0,1", *timm)
    assert result.returncode == 0, result.stderr
    assert all(0 <= last_value(folder / number, "val/point/mIoU") <= 1 for number in "01")


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        (),
        pytest.param(("launcher=joblib",), marks=needs("hydra_joblib_launcher")),
        pytest.param(
            ("sweep=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.sampler.seed=0"),
            marks=needs("hydra_optuna_sweeper"),
        ),
    ],
    ids=["grid", "joblib", "optuna"],
)
def test_a_diverged_trial_fails_alone(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    folder = tmp_path / "sweep"
    rates = "hydra.sweeper.params={optim.lr:'choice(1e-4,1e30)'}" if len(chosen) > 1 else ""
    given = [rates] if rates else ["optim.lr=1e-4,1e30,2e-4"]
    result = sweep(folder, "prompt=point", *chosen, *given)
    assert result.returncode == 1
    end = result.stderr.splitlines()[-1]
    assert re.match(
        r"uniphd-train: \d trials? failed: #.* optim\.lr=1e\+?30 .*\(Step 1 is not", end
    )
    failed = {int(number) for number in re.findall(r"#(\d)", end)}
    assert 0 < len(failed) < 3
    for number in {0, 1, 2} - failed:
        assert 0 <= last_value(folder / str(number), "val/point/mIoU") <= 1


@pytest.mark.slow
def test_a_sweep_over_two_devices_ends_with_a_sentence(tmp_path: Path) -> None:
    result = sweep(tmp_path / "sweep", "seed=0,1", "trainer.devices=2")
    assert result.returncode == 1
    assert result.stderr.count("A sweep (-m) cannot start the 2 processes") == 3
    assert "uniphd-train: 2 trials failed: #0 seed=0, #1 seed=1 (A sweep (-m)" in result.stderr
    assert "Traceback" not in result.stderr
