"""Model folders to be handed on, and their cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

import uniphd
from tests.composition import TINY, compose_train
from uniphd.checkpoints.card import base_models, model_card
from uniphd.checkpoints.folder import CONFIG_KEY, RUN_KEY
from uniphd.checkpoints.provenance import Provenance, find_provenance
from uniphd.checkpoints.reading import portable_config, read_checkpoint
from uniphd.config.compose import build_network
from uniphd.errors import ConfigError

RECORD: dict[str, Any] = {
    "date": "2026-01-02T03:04:05+00:00",
    "command": "/home/me/.venv/bin/uniphd-train experiment=swint_refhuman data.root=refhuman",
    "git": {"commit": "c0ffee", "dirty": True},
    "versions": {"uniphd": "0.1.0", "torch": "2.8.0", "numpy": "2.0"},
    "devices": {"names": ["NVIDIA H100", "NVIDIA H100"]},
    "config": {
        "init_from": "/home/me/outputs/first.ckpt",
        "backbone": {"name": "swin_tiny_patch4_window7_224", "pretrained": True},
        "text_encoder": {"name": "roberta-base"},
        "data": {"_target_": "uniphd.data.datamodule.RefHumanDataModule", "root": "/home/me/ref"},
    },
}


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """The folder of a run that validated after 3 and 6 steps, with the checkpoint of step 6."""
    config, weights = read_checkpoint(folder)
    path = tmp_path / "run"
    (path / "checkpoints").mkdir(parents=True)
    (path / "csv").mkdir()
    content = {
        CONFIG_KEY: portable_config(config, torch.nn.Module()),
        "state_dict": {f"model.{name}": value for name, value in weights.items()},
        "global_step": 6,
        RUN_KEY: RECORD,
    }
    torch.save(content, path / "checkpoints" / "last.ckpt")
    lines = ["epoch,step,train/loss,val/text/pose_AP,val/point/pose_AP,val/mean/pose_AP"]
    lines += ["0,2,1,0.1,0.2,0.15", "1,5,1,0.3,0.4567,0.4"]
    (path / "csv" / "metrics.csv").write_text("\n".join(lines) + "\n")
    (path / "run.json").write_text(json.dumps({**RECORD, "end": "finished"}))
    return path


def test_a_card_of_a_run(run: Path, tmp_path: Path) -> None:
    names = uniphd.save_pretrained(
        run / "checkpoints" / "last.ckpt", tmp_path / "out", license="cc-by-4.0"
    )
    assert names == ("config.json", "model.safetensors", "README.md")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(names)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "uniphd"
    assert card.data.base_model == ["timm/swin_tiny_patch4_window7_224.ms_in1k", "roberta-base"]
    for said in (
        *("| metric | text | point |", "| pose_AP | 30.0 | 45.7 |", "at this checkpoint"),
        *("`uniphd-train experiment=swint_refhuman data.root=refhuman`", "c0ffee and changes"),
        *("RefHumanDataModule, ref |", "first.ckpt", "NVIDIA H100, NVIDIA H100", "coco (17)"),
    ):
        assert said in card.text
    assert "/home/me" not in card.text


def test_metrics_of_another_step_are_not_the_checkpoints(run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    torch.save({**content, "global_step": 4}, path)
    found = find_provenance(path)
    assert found.metrics == {}
    assert found.record == RECORD


def test_metrics_of_an_evaluation(folder: Path, run: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"box": {"pose_AP": None, "mIoU": 0.5}}))
    uniphd.save_pretrained(folder, tmp_path / "out", run=run, metrics=metrics)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| pose_AP | – |" in text
    assert "| mIoU | 50.0 |" in text
    assert "an evaluation with uniphd-eval" in text
    assert "c0ffee" in text
    assert "states no licence" in text


@pytest.mark.parametrize("content", ["[]", "{", '{"box": 1}', '{"box": {"mIoU": "half"}}'])
def test_records_that_are_none(folder: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"run\.json"):
        find_provenance(folder, metrics=path)
    with pytest.raises(ConfigError, match=r"metrics\.json cannot be read"):
        find_provenance(folder, metrics=tmp_path / "metrics.json")


def test_base_models() -> None:
    assert base_models({}) == []
    random = {"backbone": {"name": "resnet50", "pretrained": False}, "text_encoder": {"config": {}}}
    assert base_models(random) == []
    local = {"text_encoder": {"name": "/models/roberta"}}
    assert base_models(local) == []


def test_a_damaged_record_makes_a_card() -> None:
    """What is in a checkpoint may be anybody's, and of any version."""
    network, config = build_network(compose_train(None, *TINY, "data.root=unused"))
    for record in ({}, {"git": "x", "config": [], "versions": 1, "devices": "a", "command": "'"}):
        text = model_card(config, network, Provenance(record), None, "a/b")
        assert "hf://a/b" in text
