"""The commands' own functions, end to end on drawn people, at the smallest size."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import uniphd
from tests.composition import TINY, compose_eval, compose_train
from tests.equality import differences
from uniphd.checkpoints import reading
from uniphd.cli.evaluate import evaluate
from uniphd.cli.train import train
from uniphd.errors import ConfigError
from uniphd.training.fault_tolerance import checkpoint_io

SMALL = (
    *TINY,
    "data.eval_transform.size=96",
    "data.eval_transform.max_size=96",
    "data.batch_size=2",
    "model.prompt_encoder.dropout=0",
    "optim.scheduler.warmup_steps=1",
    "trainer.log_every_n_steps=1",
    "trainer.val_check_interval=2",
    "trainer.enable_progress_bar=false",
)


def run(folder: Path, root: Path, steps: int, *overrides: str) -> dict[str, float]:
    limits = [f"trainer.max_steps={steps}", "optim.scheduler.total_steps=8"]
    if "callbacks=none" not in overrides:
        limits += ["callbacks.progress_bar=null", "callbacks.contact_sheet.people=1"]
    return train(compose_train(folder, *SMALL, f"data.root={root}", *limits, *overrides))


def losses(folder: Path) -> dict[int, str]:
    """The logged training loss of every step, as text."""
    with (folder / "csv" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    return {int(row["step"]): row["train/loss"] for row in rows}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints that were read, one entry each time."""
    paths: list[Path] = []

    def count(module: ModuleType, name: str) -> None:
        original = getattr(module, name)

        def read(path: Path, *options: Any) -> Any:
            paths.append(path)
            return original(path, *options)

        monkeypatch.setattr(module, name, read)

    count(reading, "read_checkpoint")
    count(checkpoint_io, "_read")
    return paths


def test_train_then_evaluate(tmp_path: Path, refhuman_folder: Path, reads: list[Path]) -> None:
    metrics = run(tmp_path / "run", refhuman_folder, 4)
    for kind in ("text", "point", "scribble", "box", "mean"):
        assert 0 <= metrics[f"val/{kind}/mIoU"] <= 1
    checkpoints = tmp_path / "run" / "checkpoints"
    last = checkpoints / "last.ckpt"
    assert {path.name for path in checkpoints.iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    }
    assert {p.stem for p in (tmp_path / "run" / "figures").iterdir()} == {
        "text",
        "point",
        "scribble",
        "box",
        "mask",
        "curves",
    }

    overrides = [f"ckpt={last}", f"data.root={refhuman_folder}", "data.num_workers=0"]
    quiet = ["callbacks=none", "trainer.enable_progress_bar=false"]
    results = evaluate(compose_eval(tmp_path / "eval", *overrides, *quiet))
    assert [Path(read) for read in reads] == [last]
    written = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    for kind, values in results.items():
        assert written[kind]["mIoU"] == values["mIoU"]
        assert values["mIoU"] == pytest.approx(metrics[f"val/{kind}/mIoU"], abs=1e-6)
        assert values["pose_AP"] == pytest.approx(metrics[f"val/{kind}/pose_AP"], abs=1e-6)
    segments = json.loads((tmp_path / "eval" / "point_segm.json").read_text())
    assert {entry["category_id"] for entry in segments} == {1}


def test_same_seed_same_losses(tmp_path: Path, refhuman_folder: Path) -> None:
    for name in ("first", "second"):
        run(tmp_path / name, refhuman_folder, 3, "data.val_file=null", "callbacks=none")
    run(tmp_path / "other", refhuman_folder, 3, "data.val_file=null", "callbacks=none", "seed=1")
    assert not list(tmp_path.rglob("*.ckpt"))  # none of Lightning's own either
    assert losses(tmp_path / "first") == losses(tmp_path / "second")
    assert losses(tmp_path / "first") != losses(tmp_path / "other")


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_run_continues_as_if_never_stopped(
    tmp_path: Path, refhuman_folder: Path, reads: list[Path]
) -> None:
    """Stopped within an epoch of two steps; dropout and the average of the weights go on, too."""
    options = ("model.prompt_encoder.dropout=0.3", "callbacks=[default,ema]")
    run(tmp_path / "whole", refhuman_folder, 6, *options)
    run(tmp_path / "part", refhuman_folder, 3, *options)
    last = tmp_path / "part" / "checkpoints" / "last.ckpt"
    run(tmp_path / "rest", refhuman_folder, 6, *options, f"ckpt_path={last}")
    assert reads == [last]
    whole, rest = losses(tmp_path / "whole"), losses(tmp_path / "rest")
    assert sorted(rest) == list(range(6))  # the first half comes along into the new folder
    assert rest == whole
    ends = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "rest")
    ]
    for part in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
        assert differences(ends[1][part], ends[0][part]) == []


def test_a_training_checkpoint_is_a_model_too(tmp_path: Path, refhuman_folder: Path) -> None:
    run(tmp_path / "run", refhuman_folder, 2)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    stored = torch.load(last, weights_only=True)["state_dict"]
    network = uniphd.load_model(last)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, stored[f"model.{name}"])


def test_starting_from_other_weights(tmp_path: Path, refhuman_folder: Path) -> None:
    run(tmp_path / "first", refhuman_folder, 2)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    run(tmp_path / "second", refhuman_folder, 1, f"init_from={last}", "optim.lr=0")
    trained, started = uniphd.load_model(last), tmp_path / "second" / "checkpoints" / "last.ckpt"
    for name, value in uniphd.load_model(started).state_dict().items():
        torch.testing.assert_close(value, trained.state_dict()[name])


def test_without_validation_the_last_state_is_kept(tmp_path: Path, refhuman_folder: Path) -> None:
    run(tmp_path, refhuman_folder, 2, "data.val_file=null")
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:Experiment logs directory")
def test_the_same_command_starts_and_resumes(tmp_path: Path, refhuman_folder: Path) -> None:
    options = ("data.val_file=null", "ckpt_path=last", "callbacks.curves=null")
    last = tmp_path / "checkpoints" / "last.ckpt"
    for steps in (2, 3):
        run(tmp_path, refhuman_folder, steps, *options)
        assert torch.load(last, weights_only=True)["global_step"] == steps
    assert torch.load(last.with_name("previous.ckpt"), weights_only=True)["global_step"] == 2
    (tmp_path / "csv" / "metrics.csv").unlink()
    last.unlink()
    run(tmp_path, refhuman_folder, 3, *options)
    assert list(losses(tmp_path)) == [2]
    with pytest.raises(ConfigError, match=r"ckpt_path=last needs callbacks\.last"):
        run(tmp_path, refhuman_folder, 3, "callbacks=none", "ckpt_path=last")
