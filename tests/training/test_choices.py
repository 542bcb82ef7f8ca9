"""Precision, determinism and the debugging configurations, in runs of a few steps."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import ANY, Mock

import pytest
import torch
from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode

import uniphd
from tests.composition import TINY, compose_train
from tests.equality import differences
from uniphd.cli.train import train
from uniphd.config.compose import build, config_dir
from uniphd.losses.criterion import SetCriterion
from uniphd.models import deformable_attention

SMALL = (
    *TINY,
    "data.eval_transform.size=96",
    "data.eval_transform.max_size=96",
    "data.batch_size=2",
    "prompt=point",
    "optim.scheduler.warmup_steps=1",
    "optim.scheduler.total_steps=100",
    "callbacks.progress_bar=null",
    "callbacks.contact_sheet=null",
    "trainer.enable_progress_bar=false",
)


def run(folder: Path, root: Path, *overrides: str) -> list[dict[str, str]]:
    """The rows of a run's log."""
    train(compose_train(folder, *SMALL, f"data.root={root}", *overrides))
    with (folder / "csv" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_bfloat16_keeps_positions_and_losses_in_float32(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refhuman_folder: Path
) -> None:
    """As the specification of operator and losses asks; the products themselves are halves."""
    seen: dict[str, set[torch.dtype]] = {"value": set(), "sums": set(), "losses": set()}
    attend, matched = deformable_attention.ms_deform_attn, SetCriterion.matched_losses

    def attention(value: Any, shapes: Any, locations: Any, weights: Any) -> Any:
        seen["value"].add(value.dtype)
        seen["sums"] |= {locations.dtype, weights.dtype}
        return attend(value, shapes, locations, weights)

    def losses(self: SetCriterion, *arguments: Any) -> Any:
        found = matched(self, *arguments)
        seen["losses"] |= {value.dtype for value in found.values()}
        return found

    monkeypatch.setattr(deformable_attention, "ms_deform_attn", attention)
    monkeypatch.setattr(SetCriterion, "matched_losses", losses)
    options = ("trainer.precision=bf16-mixed", "trainer.max_steps=1", "data.val_file=null")
    rows = run(tmp_path, refhuman_folder, "trainer.log_every_n_steps=1", *options)
    assert seen["value"] == {torch.bfloat16}
    assert seen["sums"] == {torch.float32}
    assert seen["losses"] == {torch.float32}
    logged = {name: float(value) for row in rows for name, value in row.items() if value}
    assert all(math.isfinite(value) for value in logged.values())
    assert {"train/loss", "grad_norm/total", "grad_norm/encoder"} < logged.keys()
    stored = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    dtypes = {value.dtype for value in stored.values() if value.is_floating_point()}
    assert dtypes == {torch.float32}


@pytest.fixture
def as_before() -> Iterator[None]:
    """Leaves PyTorch's deterministic mode as it was."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("as_before")
def test_deterministic_training(tmp_path: Path, refhuman_folder: Path) -> None:
    options = ("trainer=deterministic", "trainer.accelerator=cpu", "data.val_file=null")
    steps = ("trainer.log_every_n_steps=1", "trainer.max_steps=2", "callbacks=[default,ema]")
    recorder = BackwardOperators()
    with recorder:
        first = run(tmp_path / "a", refhuman_folder, *options, *steps, "callbacks.curves=null")
    second = run(tmp_path / "b", refhuman_folder, *options, *steps, "callbacks.curves=null")
    assert torch.are_deterministic_algorithms_enabled()
    assert first == second
    assert len([row for row in first if row["train/loss"]]) == 2
    checkpoints = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in "ab"
    ]
    for content in checkpoints:
        del content["uniphd_run"], content["callbacks"], content["uniphd_logs"]  # dates, folders
    assert differences(*checkpoints) == []
    listed = (config_dir() / "trainer" / "deterministic.yaml").read_text()
    assert {name for name in recorder.seen if name in RANDOM_ON_CUDA} == set(
        re.findall(r"\w+_backward\b", listed)
    )


@pytest.mark.slow
def test_a_compiled_run_is_the_same_run(
    tmp_path: Path, refhuman_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what the compiler is given run as written: generating code would take minutes."""
    training = import_module("uniphd.cli.train")
    asked = Mock(wraps=training.compile_parts)
    monkeypatch.setattr(training, "compile_parts", asked)
    steps = ("trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "trainer.max_steps=2")
    rows = []
    for mode in ("null", "default"):
        options = (*steps, "data.val_file=null", f"compile={mode}")
        with torch.compiler.set_stance("force_eager"):
            rows.append(run(tmp_path / mode, refhuman_folder, *options, "callbacks.curves=null"))
    asked.assert_called_once_with(ANY, mode="default")
    assert rows[0] == rows[1]
    written, compiled = (
        uniphd.load_model(tmp_path / mode / "checkpoints" / "last.ckpt").state_dict()
        for mode in ("null", "default")
    )
    assert differences(written, compiled) == []


# Operators for which PyTorch has no deterministic CUDA kernel (torch.use_deterministic_algorithms).
RANDOM_ON_CUDA = {
    "_adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d_backward",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "nll_loss2d_forward",
    "reflection_pad2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward",
    "upsample_linear1d_backward",
}


class BackwardOperators(TorchDispatchMode):
    """Notes the names of all operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func._schema.name.partition("::")[2])
        return func(*args, **(kwargs or {}))


def test_overfitting_validates_on_what_it_trains_on() -> None:
    options = ("experiment=swint_refhuman", "debug=overfit", "data.root=unused")
    config = compose_train(Path("unused"), *options)
    data = OmegaConf.to_container(config.data, resolve=True)
    assert data["val_file"] == data["train_file"] == "RefHuman_train.json"
    assert data["limit_val_people"] == data["limit_people"] == 16
    assert data["train_transform"]["_target_"].endswith("EvaluationTransform")
    assert config.trainer.max_steps == 1000
    fewer = compose_train(Path("unused"), *options, "data.limit_people=4", "trainer.max_steps=7")
    assert (fewer.data.limit_val_people, fewer.trainer.max_steps) == (4, 7)


def test_an_overfitting_run_has_a_constant_rate(tmp_path: Path, refhuman_folder: Path) -> None:
    steps = ("trainer.max_steps=2", "trainer.val_check_interval=1", "trainer.log_every_n_steps=1")
    rows = run(tmp_path, refhuman_folder, "debug=overfit", *steps, "data.limit_people=2")
    rates = [value for row in rows for name, value in row.items() if name.startswith("lr-")]
    assert {float(rate) for rate in rates if rate} == {1e-3}
    assert [row["val/point/mIoU"] != "" for row in rows].count(True) == 2


def test_a_limited_run_trains_and_validates_once(tmp_path: Path, refhuman_folder: Path) -> None:
    limits = ("debug=limit", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1")
    rows = run(tmp_path, refhuman_folder, *limits, "data.val_batch_size=1")
    assert len([row for row in rows if row["train/loss"]]) == 2
    assert len([row for row in rows if row["val/point/mIoU"]]) == 1
    assert (tmp_path / "checkpoints" / "best.ckpt").is_file()


def test_a_profiled_run_leaves_a_table(tmp_path: Path, refhuman_folder: Path) -> None:
    limits = ("trainer.limit_train_batches=2", "trainer.log_every_n_steps=1")
    run(tmp_path, refhuman_folder, "debug=profiler", *limits)
    assert "run_training_batch" in (tmp_path / "fit-profile.txt").read_text()


@pytest.mark.parametrize("debug", [path.stem for path in (config_dir() / "debug").glob("*.yaml")])
@pytest.mark.parametrize("experiment", ["swint_refhuman", "tiny_refhuman"])
def test_debugging_goes_with_any_experiment(experiment: str, debug: str, tmp_path: Path) -> None:
    choices = (f"experiment={experiment}", f"debug={debug}", "trainer.accelerator=cpu")
    config = compose_train(tmp_path, *choices, "data.root=unused")
    OmegaConf.resolve(config)
    assert not OmegaConf.missing_keys(config)
    build(config.trainer, logger=False)
