"""Logging to Weights & Biases and TensorBoard, without a network: their files are read back."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from wandb.proto.wandb_internal_pb2 import ArtifactRecord, Record

import uniphd
from tests.integration.test_train_and_evaluate import run
from uniphd.training.loggers.wandb_files import last_step, read_records
from uniphd.training.module import RefHumanModule

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory"),
]

OFFLINE = ("logger=wandb", "logger.wandb.offline=true", "logger.wandb.id=testrun")
KINDS = ("text", "point", "scribble", "box", "mask")


@pytest.fixture(autouse=True)
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Artifacts go to the test's folder, and W&B's own process ends with the test."""
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "artifacts"))
    yield
    wandb.teardown()


def files(*folders: Path) -> list[Path]:
    """The run's files in the order of time, when W&B's own process has written and ended."""
    wandb.teardown()
    found = [
        path for folder in folders for path in folder.glob("wandb/*-testrun/run-testrun.wandb")
    ]
    return sorted(found, key=lambda path: path.parent.name)


def records(path: Path, kind: str) -> list[Record]:
    return [record for record in read_records(path) if record.WhichOneof("record_type") == kind]


def history(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Steps and what was logged, media as dictionaries, without W&B's own columns."""
    rows = []
    for record in records(path, "history"):
        values: dict[str, Any] = {}
        for item in record.history.item:
            name, *field = item.nested_key or [item.key]
            if field:
                values.setdefault(name, {})[field[0]] = json.loads(item.value_json)
            elif not name.startswith("_"):
                values[name] = json.loads(item.value_json)
        rows.append((record.history.step.num, values))
    return rows


def columns(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def images(artifact: ArtifactRecord) -> list[str]:
    return [entry.path for entry in artifact.manifest.contents if entry.path.endswith(".png")]


def test_all_loggers_have_the_same_names_and_the_images(
    tmp_path: Path, refhuman_folder: Path
) -> None:
    run_folder = tmp_path / "run"
    options = ("logger=[wandb,tensorboard]", *OFFLINE[1:], "callbacks.instances_table.people=1")
    run(run_folder, refhuman_folder, 2, *options)
    (file,) = files(run_folder)
    rows = history(file)
    assert [step for step, _ in rows] == [0, 1]
    logged = {name: value for _, row in rows for name, value in row.items()}
    media = {name for name, value in logged.items() if isinstance(value, dict)}
    maps = {"adjacency/layer_1", "adjacency/layer_2"}
    tables = {f"instances/{kind}" for kind in KINDS}
    assert media == maps | tables

    names = {name for row in columns(run_folder) for name in row} - {"step"}
    assert logged.keys() - media - {"trainer/global_step"} == names
    for name in ("train/final/keypoints", "train/layer0/oks", "val/box/pose_AP", "grad_norm/total"):
        assert name in names
    assert "lr-AdamW/default" in names

    board = EventAccumulator(str(run_folder / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == names
    assert set(board.Tags()["images"]) == media

    folder = file.parent / "files"
    for name in maps:
        assert logged[name]["_type"] == "image-file"
        assert (folder / logged[name]["path"]).is_file()
    for name in tables:
        table = json.loads((folder / logged[name]["path"]).read_text())
        assert table["columns"][:5] == [
            "person",
            "prompt",
            "image",
            "prediction",
            "annotation",
        ]
        assert len(table["data"]) == 1
    artifacts = [record.artifact for record in records(file, "artifact")]
    shown = {a.name.split("-")[2]: images(a) for a in artifacts if a.type == "run_table"}
    assert {name: len(found) for name, found in shown.items()} == {
        f"instances{k}": 3 for k in KINDS
    }

    (model,) = [artifact for artifact in artifacts if artifact.type == "model"]
    assert (model.name, set(model.aliases)) == ("model-testrun", {"best", "latest"})
    for entry in model.manifest.contents:
        (tmp_path / "model").mkdir(exist_ok=True)
        shutil.copy(entry.local_path, tmp_path / "model" / entry.path)
    kept, best = (
        uniphd.load_model(path).state_dict()
        for path in (tmp_path / "model", run_folder / "checkpoints" / "best.ckpt")
    )
    assert kept.keys() == best.keys()
    assert all(torch.equal(kept[name], best[name]) for name in best)

    described = {item.key: item.value_json for item in records(file, "config")[-1].config.update}
    assert json.loads(described["optim"])["lr"] == 1e-3


def crash(monkeypatch: pytest.MonkeyPatch, folder: Path, root: Path, *options: str) -> None:
    """A run that fails in its sixth step; its last checkpoint is of four."""
    step = RefHumanModule.training_step

    def failing(self: RefHumanModule, *arguments: Any) -> Tensor:
        if self.global_step == 5:
            raise ZeroDivisionError("on purpose")
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RefHumanModule, "training_step", failing)
        with pytest.raises(ZeroDivisionError):
            run(folder, root, 8, *options)


def cut(path: Path, step: int) -> None:
    """As if the process had been killed when the file had no more than this step."""
    data = path.read_bytes()
    for size in range(len(data), 0, -100):
        path.write_bytes(data[:size])
        if last_step(path.parents[2], "testrun") == step:
            return


@pytest.mark.parametrize("resumed", ["same", "another"])
def test_an_interrupted_and_resumed_run_is_one_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refhuman_folder: Path, resumed: str
) -> None:
    """Resumed without its id; in the same folder after a failure, in another after a kill."""
    less = ("prompt=text", "callbacks.contact_sheet=null", "callbacks.instances_table=null")
    first, second = tmp_path / "same", tmp_path / resumed
    crash(monkeypatch, first, refhuman_folder, *less, *OFFLINE)
    if resumed == "another":
        cut(files(first)[0], step=1)
    last = first / "checkpoints" / "last.ckpt"
    run(second, refhuman_folder, 8, *less, *OFFLINE[:2], f"ckpt_path={last}")

    parts = [history(path) for path in files(*{first, second})]
    assert len(parts) == 2
    joined = [row for part in parts for row in part]
    assert [step for step, _ in joined] == list(range(8))
    assert [step for step, values in joined if "val/text/mIoU" in values] == [1, 3, 5, 7]
    assert all({"train/loss", "grad_norm/total", "lr-AdamW/default"} < v.keys() for _, v in joined)

    rows = columns(second)
    losses = {int(row["step"]): float(row["train/loss"]) for row in rows if "train/loss" in row}
    assert list(losses) == list(range(8))
    assert losses == pytest.approx({step: values["train/loss"] for step, values in joined})
    names = [(row["step"], name) for row in rows for name in row if name not in ("step", "epoch")]
    assert len(names) == len(set(names))


def test_two_trainings_in_one_process_are_two_runs(tmp_path: Path, refhuman_folder: Path) -> None:
    """As in a sweep."""
    for name in ("testrun", "another"):
        plain = ["prompt=text", "callbacks=none", f"logger.wandb.id={name}"]
        run(tmp_path / name, refhuman_folder, 2, *OFFLINE[:2], *plain)
        assert last_step(tmp_path / name, name) == 1
