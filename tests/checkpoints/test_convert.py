"""Foreign checkpoints: what is converted, what is refused, and that nothing in them runs."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models.swin_transformer import checkpoint_filter_fn

import uniphd
from uniphd.checkpoints.convert import convert
from uniphd.checkpoints.pickled import read_pickle_safely
from uniphd.errors import CheckpointError, StorageError
from uniphd.models.backbone import Backbone


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def official(golden: Path) -> dict[str, torch.Tensor]:
    """An official state dict with one layer of each kind and a small vocabulary."""
    entries = json.loads((golden / "reference_state_dict.json").read_text())["entries"]
    later = re.compile(
        r"(encoder|decoder)\.layers\.[1-5]\.|(class|bbox|pose|visi)_embed\.[1-5]\.|layer\.\d*[1-9]"
    )
    state = {}
    for entry in entries:
        key, shape = entry["key"], list(entry["shape"])
        if later.search(key) and "backbone" not in key.split(".")[0]:
            continue
        if "word_embeddings" in key:
            shape[0] = 64
        state[key] = torch.full(shape, 0.01)
    return state


def save(tmp_path: Path, state: dict[str, torch.Tensor], **extra: Any) -> Path:
    path = tmp_path / "official.pth"
    torch.save({"model": state, "args": argparse.Namespace(num_group=7), **extra}, path)
    return path


def test_official_checkpoint_becomes_a_model_folder(
    tmp_path: Path, official: dict[str, torch.Tensor]
) -> None:
    official["transformer.enc_output.bias"] = torch.arange(256.0)
    official["backbone.0.layers.0.downsample.norm.bias"] = torch.arange(384.0)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict()
    source = save(tmp_path, official, optimizer=optimizer, epoch=3)
    done = convert(source, tmp_path / "out")
    network = uniphd.load_model(tmp_path / "out")
    assert done.kind == "uniphd"
    assert network.query_selection.num_queries == 7
    assert len(network.decoder.layers) == 1
    assert network.query_selection.projection.bias.tolist() == list(range(256))
    moved = network.backbone.body.get_parameter("layers_1.downsample.norm.bias")
    assert moved.tolist() == list(range(384))
    assert not network.training


def test_a_full_disk_leaves_the_folder_as_it_was(
    official: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = save(tmp_path, official), tmp_path / "out"
    convert(source, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"out/model\.safetensors cannot be written: No space"):
        convert(source, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_that_is_a_file_is_one_sentence(
    official: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(StorageError, match="cannot be written: Not a directory"):
        convert(save(tmp_path, official), tmp_path / "out")


def test_old_constants_and_parallel_prefix_are_accepted(
    tmp_path: Path, official: dict[str, torch.Tensor]
) -> None:
    official["text_encoder.text_backbone.embeddings.position_ids"] = torch.arange(514)[None]
    wrapped = {f"module.{key}": value for key, value in official.items()}
    assert convert(save(tmp_path, wrapped), tmp_path / "out").converted > 300


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state},
        lambda state: {"model_state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()}},
        lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}},
        lambda state: {"model": {"state_dict": {f"my.net.{k}": v for k, v in state.items()}}},
        lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
        lambda state: {"ema": {"module": {f"module.{k}": v for k, v in state.items()}}},
        lambda state: {"optimizer": {"state": {0: {"step": torch.ones(1)}}}, "ema_model": state},
        lambda state: {
            k.replace("transformer.", "transformer._orig_mod."): v for k, v in state.items()
        },
    ],
)
def test_wrappers_and_prefixes_are_taken_off(
    tmp_path: Path, official: dict[str, torch.Tensor], wrap: Any
) -> None:
    wrapped = {**wrap(official), "epoch": 3, "args": {"num_group": 7}}
    torch.save(wrapped, tmp_path / "official.pth")
    assert convert(tmp_path / "official.pth", tmp_path / "out").converted > 300
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model"]["query_selection"]["num_queries"] == 7


def test_two_networks_in_a_file_are_not_mixed(
    tmp_path: Path, official: dict[str, torch.Tensor]
) -> None:
    torch.save({"model": official, "ema": dict(official)}, tmp_path / "ema.pth")
    with pytest.raises(CheckpointError, match=r"2 networks, below 'model\.', 'ema\.'; save"):
        convert(tmp_path / "ema.pth", tmp_path / "out")
    both = {f"{name}.{k}": v for name in ("student", "teacher") for k, v in official.items()}
    with pytest.raises(
        CheckpointError, match=r"2 networks, below 'model\.student\.', 'model\.teacher"
    ):
        convert(save(tmp_path, both), tmp_path / "out")


def test_plain_values_beside_the_weights_are_taken(tmp_path: Path) -> None:
    beside = {
        "weights": torch.arange(3.0),
        "best": np.float64(0.5),
        "counts": [np.int64(7), np.array([7], dtype=">i4")[0], np.uint8(7)],
        "flag": np.bool_(True),
        "options": argparse.Namespace(num_group=np.int64(7), out=Path("runs/a")),
        "by_kind": defaultdict(list, text=[1]),
        "curve": np.arange(3.0),
        "names": np.array(["a", None], dtype=object),
        "random": np.random.RandomState(0).get_state(),
    }
    torch.save(beside, tmp_path / "a.pth")
    content = read_pickle_safely(tmp_path / "a.pth")
    assert content["weights"].tolist() == [0, 1, 2]
    for name in ("best", "counts", "flag", "by_kind"):
        assert content[name] == beside[name]
    assert vars(content["options"]) == {"num_group": 7, "out": "runs/a"}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Fraction(1, 2), "fractions.Fraction"),
        (torch.optim.SGD, r"torch\.optim\.sgd\.SGD"),
        (torch.nn.Linear(1, 1), r"torch\.nn\.modules\.linear\.Linear"),
        (eval, "eval"),
    ],
)
def test_other_classes_are_named(tmp_path: Path, value: Any, name: str) -> None:
    torch.save({"model": {}, "other": value}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"it holds {name}, which is more") as caught:
        convert(tmp_path / "a.pth", tmp_path / "out")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(
    tmp_path: Path, official: dict[str, torch.Tensor], value: float
) -> None:
    official["controller.layers.0.bias"][3] = value
    with pytest.raises(CheckpointError, match=r"NaN or infinite values \(mask_head.controller"):
        convert(save(tmp_path, official), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("controller.layers.0.bias"), r"1 entry missing \(mask_head.controller"),
        (lambda s: s.update(surprise=torch.ones(1)), r"1 entry left over \(surprise\)"),
        (
            lambda s: s.update({"enc_pose": torch.ones(1), "x": torch.ones(1)}),
            r"2 entries left over \(enc_pose, x\)",
        ),
        (
            lambda s: s.update({"controller.layers.0.bias": torch.ones(3)}),
            r"of another shape \(mask_head.controller.layers.0.bias \(3,\) instead of \(256,\)\)",
        ),
    ],
    ids=["missing", "left over", "two left over", "shape"],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, official: dict[str, torch.Tensor], change: Any, message: str
) -> None:
    change(official)
    with pytest.raises(CheckpointError, match=message):
        convert(save(tmp_path, official), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pickled_code_is_not_executed(tmp_path: Path) -> None:
    source, mark = tmp_path / "hostile.pth", tmp_path / "executed"
    torch.save({"model": {}, "args": Hostile(mark)}, source)
    with pytest.raises(CheckpointError, match="asks for code to be executed"):
        convert(source, tmp_path / "out")
    with pytest.raises(CheckpointError, match="asks for code to be executed"):
        uniphd.load_model(source)
    assert not mark.exists()
    torch.load(source, weights_only=False)
    assert mark.exists(), "the file is hostile, so the check above can fail"


@pytest.mark.parametrize(
    "name",
    [
        f"text_encoder.text_backbone.encoder.layer.{10**6}.output.dense.bias",
        f"transformer.encoder.layers.{10**9}.norm1.bias",
    ],
)
def test_a_name_that_counts_too_far(
    tmp_path: Path, official: dict[str, torch.Tensor], name: str
) -> None:
    official[name] = torch.ones(1)
    with pytest.raises(CheckpointError, match=r"much larger network|more than 1048576 is refused"):
        convert(save(tmp_path, official), tmp_path / "out")


@pytest.mark.parametrize("queries", [10**9, [1], "many", None])
def test_senseless_queries_beside_official_weights(
    tmp_path: Path, official: dict[str, torch.Tensor], queries: Any
) -> None:
    with pytest.raises(CheckpointError, match=r"official\.pth"):
        convert(save(tmp_path, official, args={"num_group": queries}), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "damaged.pth"
    source.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged\.pth"):
        convert(source, tmp_path / "out")


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint file"):
        convert(tmp_path / "nowhere.pth", tmp_path / "out")
    torch.save({"model": {"fc.weight": torch.ones(1)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"neither an official UniPHD .*it has 'fc\.weight'"):
        convert(tmp_path / "other.pth", tmp_path / "out")


def microsoft_state(classifier: torch.nn.Module) -> dict[str, torch.Tensor]:
    """timm's classifier with Microsoft's names: downsampling ends a stage."""
    state = {}
    for key, value in classifier.state_dict().items():
        match = re.match(r"layers\.(\d)\.downsample\.(.+)", key)
        name = f"layers.{int(match[1]) - 1}.downsample.{match[2]}" if match else key
        state[name.replace("head.fc.", "head.")] = value
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    return state


def test_microsoft_swin_gives_timms_own_conversion(tmp_path: Path) -> None:
    name = "swin_tiny_patch4_window7_224"
    torch.manual_seed(0)
    classifier = timm.create_model(name)
    state = microsoft_state(classifier)
    detector = {f"backbone.{key}": value for key, value in state.items()}
    torch.save({"state_dict": {**detector, "head.x": torch.ones(1)}}, tmp_path / "swin.pth")
    done = convert(tmp_path / "swin.pth", tmp_path / "out")
    expected = checkpoint_filter_fn({"model": state}, classifier)
    ours = load_file(done.path)
    assert done.kind == "swin"
    for key, value in ours.items():
        torch.testing.assert_close(value, expected[key.replace("layers_", "layers.")])
    backbone = Backbone(name, [96, 192, 384, 768], weights=str(done.path))
    loaded = backbone.body.state_dict()["layers_3.downsample.norm.bias"]
    torch.testing.assert_close(loaded, expected["layers.3.downsample.norm.bias"])
