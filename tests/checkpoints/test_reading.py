"""Model folders and training checkpoints, good and bad."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import uniphd
from tests.composition import TINY, compose_train
from uniphd.checkpoints.convert import convert
from uniphd.checkpoints.folder import CONFIG_KEY, ModelConfig, save_folder, write_weights
from uniphd.checkpoints.reading import portable_config, start_from
from uniphd.config.compose import build_network
from uniphd.errors import CheckpointError, ConfigError
from uniphd.keypoints import COCO17


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of the smallest network."""
    torch.manual_seed(0)
    network, config = build_network(compose_train(None, *TINY, "data.root=unused"))
    portable = ModelConfig(**portable_config(config, network))
    save_folder(tmp_path / "model", portable, network.state_dict())
    return tmp_path / "model"


def test_weights_can_be_read_by_whoever_may_read_the_configuration(folder: Path) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    assert weights.stat().st_mode == config.stat().st_mode


def test_tied_weights_are_written_twice(tmp_path: Path) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    weights = {"a": tied, "b": tied, "part": tied[1:], "turned": tied.T, "empty": torch.ones(0)}
    write_weights(tmp_path / "a.safetensors", weights)
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(read[name], value)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_gives_the_same_network(folder: Path) -> None:
    torch.manual_seed(0)
    network, _ = build_network(compose_train(None, *TINY, "data.root=unused"))
    loaded = uniphd.load_model(folder).state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded[name], value)


def test_a_folder_that_says_no_keypoint_set_is_of_coco(folder: Path) -> None:
    model = json.loads((folder / "config.json").read_text())["model"]
    assert model.pop("keypoints") == "coco"
    for part in ("query_selection", "decoder"):
        assert model[part].pop("num_keypoints") == len(COCO17)
    edit(folder, model=model)
    assert uniphd.load_model(folder).schema is COCO17
    edit(folder, model={**model, "keypoints": "crowdpose"})
    with pytest.raises(ConfigError, match="num_keypoints is 17, but the keypoint set crowdpose"):
        uniphd.load_model(folder)


@pytest.fixture
def run_checkpoint(tmp_path: Path) -> Path:
    """What uniphd-train stores of the smallest network, without the optimizer."""
    torch.manual_seed(0)
    network, config = build_network(compose_train(None, *TINY, "data.root=unused"))
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    content = {CONFIG_KEY: portable_config(config, network), "state_dict": state}
    torch.save(content, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


@pytest.mark.parametrize("half", [False, True])
def test_a_run_becomes_a_model_folder(run_checkpoint: Path, tmp_path: Path, half: bool) -> None:
    done = convert(run_checkpoint, tmp_path / "out", half=half)
    expected = uniphd.load_model(run_checkpoint).state_dict()
    assert (done.kind, done.converted) == ("run", len(expected))
    loaded = uniphd.load_model(done.path).state_dict()
    for name, value in expected.items():
        rounded = value.half().float() if half and value.is_floating_point() else value
        assert torch.equal(loaded[name], rounded), name
        assert loaded[name].dtype == value.dtype
    size = (done.path / "model.safetensors").stat().st_size
    count = sum(value.numel() for value in expected.values())
    assert 0.99 < size / (count * (2 if half else 4)) < 1.1


def test_only_parts_that_read_files_change_their_arguments() -> None:
    """Another backbone's arguments stay as they are."""
    network, config = build_network(compose_train(None, *TINY, "data.root=unused"))
    backbone = {"_target_": "uniphd.models.Another", "width": 3}
    given = ModelConfig({**config.model, "backbone": backbone}, config.tokenizer)
    assert portable_config(given, network)["model"]["backbone"]["pretrained"] is False
    network.backbone = nn.Identity()
    portable = portable_config(given, network)["model"]
    assert portable["backbone"] == backbone
    assert portable["prompt_encoder"]["text_encoder"]["name"] is None
    assert {**portable, "prompt_encoder": None} == {**given.model, "prompt_encoder": None}


def test_starting_from_a_checkpoint_says_what_fitted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    weights = uniphd.load_model(folder).backbone.state_dict()
    network = nn.ModuleDict({"backbone": nn.Linear(1, 1), "neck": nn.Linear(1, 1)})
    network.schema = COCO17
    with pytest.raises(CheckpointError, match=r"None of the .* weights of init_from"):
        start_from(network, str(folder))
    name = next(iter(weights))
    other = uniphd.load_model(folder)
    with torch.no_grad():
        for value in other.parameters():
            value.zero_()
    other.heads = nn.Linear(7, 7)
    start_from(other, str(folder))
    assert torch.equal(other.backbone.state_dict()[name], weights[name])
    count = len(weights)
    assert f"backbone {count} of {count}" in caplog.text
    assert "heads 0 of 2" in caplog.text


def test_missing_file(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        uniphd.load_model(folder)


def test_damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        uniphd.load_model(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "uniphd-model-1", "other": 1}'])
def test_foreign_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="not a model configuration"):
        uniphd.load_model(folder)


@pytest.mark.parametrize(
    "target",
    ["os.system", "torch.nn.Linear", "uniphd.models.backbone.timm", "uniphd.models.layers.Tensor"],
)
def test_only_our_own_classes_are_built(folder: Path, target: str) -> None:
    edit(folder, model={"_target_": target})
    with pytest.raises(ConfigError, match="_target_"):
        uniphd.load_model(folder)


def test_unknown_argument(folder: Path) -> None:
    edit(folder, model={"_target_": "uniphd.models.fusion.PromptFusion", "depth": 3})
    with pytest.raises(ConfigError, match="depth"):
        uniphd.load_model(folder)


def test_weights_of_another_size(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["model"]["mask_head"]["stride4_dim"] = 7
    edit(folder, **content)
    with pytest.raises(CheckpointError, match="do not fit"):
        uniphd.load_model(folder)


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint of uniphd-train"):
        uniphd.load_model(tmp_path / "other.ckpt")


def test_a_packaged_model_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    packaged = uniphd.load_model("synthetic_cpu")
    assert packaged.query_selection.num_queries == 4
    folder.rename(tmp_path / "synthetic_cpu")  # what lies in the working directory comes first
    own = uniphd.load_model("synthetic_cpu")
    assert own.query_selection.num_queries == 3
    with pytest.raises(CheckpointError, match="no checkpoint file synthetic_gpu"):
        uniphd.load_model("synthetic_gpu")
