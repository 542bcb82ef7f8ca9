"""Models on the hub: what is fetched, what is sent, and what is said where neither is possible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import uniphd
from tests.checkpoints.hub_server import TOKEN, Hub, Repository
from uniphd.checkpoints import hub as hub_module
from uniphd.checkpoints.folder import ModelConfig, save_folder
from uniphd.checkpoints.push import push
from uniphd.checkpoints.reading import read_checkpoint
from uniphd.cli import hub as command
from uniphd.errors import CheckpointError, ConfigError
from uniphd.models.build import build_tokenizer
from uniphd.models.hub import unreachable

NAME = "someone/people"


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub
        hub.shutdown()


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty hub, an empty cache, and nobody logged in."""
    server.repositories, server.requests, server.status, server.delay = {}, [], None, 0.0
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": False,
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_STORED_TOKENS_PATH": str(tmp_path / "tokens"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    unreachable.cache_clear()
    return server


@pytest.fixture
def owner(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub, with its owner logged in."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def upload(hub: Hub, folder: Path, **extra: bytes) -> Repository:
    """A model folder as somebody's repository."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    repository = hub.repositories[NAME] = Repository()
    repository.commit({**files, **extra})
    return repository


def with_words(folder: Path, words: Path) -> Path:
    """A model folder whose tokenizer has files, in a folder of its own."""
    config, weights = read_checkpoint(folder)
    known = {word: i for i, word in enumerate(["<pad>", "<unk>", "the", "woman", "left", "on"])}
    inner = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(words)
    target = "uniphd.models.tokenizer.HuggingFaceTokenizer"
    tokenizer = {"_target_": target, "name": str(words), "max_length": 9}
    save_folder(folder, ModelConfig(**{**asdict(config), "tokenizer": tokenizer}), weights)
    return folder


def test_a_model_comes_from_the_hub_with_its_two_files_and_no_other(hub: Hub, folder: Path) -> None:
    code = {"modeling.py": b"raise SystemExit", "pytorch_model.bin": b"a pickle", "README.md": b"#"}
    upload(hub, folder, **code)
    loaded = uniphd.load_model(f"hf://{NAME}").state_dict()
    for name, value in load_file(folder / "model.safetensors").items():
        assert torch.equal(loaded[name], value)
    assert hub.fetched() == ["config.json", "model.safetensors"]
    uniphd.load_model(f"hf://{NAME}")
    assert hub.fetched() == ["config.json", "model.safetensors"]  # the second time, the cache's


def test_a_revision_is_pinned(hub: Hub, folder: Path) -> None:
    repository = upload(hub, folder)
    first = repository.branches["main"]
    config, weights = read_checkpoint(folder)
    changed = {name: value + 1 for name, value in weights.items()}
    save_folder(folder, config, changed)
    repository.commit({"model.safetensors": (folder / "model.safetensors").read_bytes()})
    name = next(name for name, value in weights.items() if value.is_floating_point())
    for revision, expected in ((first, weights), ("main", changed)):
        _, found = read_checkpoint(f"hf://{NAME}@{revision}")
        assert torch.equal(found[name], expected[name])
    hub.requests.clear()
    read_checkpoint(f"hf://{NAME}@{first}")
    assert hub.requests == []  # a commit does not change


def test_the_files_of_one_commit_are_not_mixed_with_another(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = upload(hub, folder)
    fetch = hub_module._fetch

    def and_then_somebody_pushes(address: Any, name: str) -> Path:
        path = fetch(address, name)
        repository.commit({"model.safetensors": b"another network's"})
        return path

    monkeypatch.setattr(hub_module, "_fetch", and_then_somebody_pushes)
    read_checkpoint(f"hf://{NAME}")


def test_the_tokenizer_comes_along(owner: Hub, folder: Path, tmp_path: Path) -> None:
    with_words(folder, tmp_path / "words")
    address = push(folder, NAME)
    repository = owner.repositories[NAME]
    sent = set(repository.files[repository.branches["main"]]) - {".gitattributes"}
    tokenizer = {"tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"}
    assert sent == {"config.json", "model.safetensors", "README.md"} | tokenizer
    assert str(tmp_path) not in str(repository.files[address.revision])
    config, _ = read_checkpoint(str(address))
    assert set(owner.fetched()) == {"config.json", "model.safetensors"} | tokenizer
    original = build_tokenizer(read_checkpoint(folder)[0].tokenizer)
    again = build_tokenizer(config.tokenizer)
    for text in ("the woman on the left", "nobody " * 20):
        assert torch.equal(original([text])[0], again([text])[0])
    assert config.tokenizer["max_length"] == 9


def test_a_predictor_answers_as_before_it_was_sent(owner: Hub) -> None:
    push("synthetic_cpu", NAME, revision="trained", private=True)
    assert owner.repositories[NAME].private
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    asked: dict[str, Any] = {"text": "the woman on the left"}
    here = uniphd.Predictor("synthetic_cpu", device="cpu").predict(image, **asked)
    there = uniphd.Predictor(f"hf://{NAME}@trained", device="cpu").predict(image, **asked)
    assert here.to_coco() == there.to_coco()
    with pytest.raises(
        CheckpointError, match=r"There is no config.json of hf://someone/people@main"
    ):
        uniphd.load_model(f"hf://{NAME}")


def test_without_a_network_the_cache_is_used_and_a_missing_file_is_named(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(hub, folder)
    said = r"^config.json of hf://someone/people@main is not in .*cache, and HF_HUB_OFFLINE is set"
    with monkeypatch.context() as offline:
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(CheckpointError, match=said):
            uniphd.load_model(f"hf://{NAME}")
    read_checkpoint(f"hf://{NAME}")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    uniphd.load_model(f"hf://{NAME}")
    assert hub.requests == []
    for weights in Path(constants.HF_HUB_CACHE).rglob("model.safetensors"):
        weights.unlink()
    with pytest.raises(CheckpointError, match=r"^model.safetensors of .* is not in .*cache"):
        uniphd.load_model(f"hf://{NAME}")
    with pytest.raises(CheckpointError, match=r"Nothing can be sent .* HF_HUB_OFFLINE is set"):
        push(folder, NAME)


def test_a_hub_that_is_away_leaves_the_cache_with_a_warning(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload(hub, folder)
    read_checkpoint(f"hf://{NAME}")
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.delay = 1.0
    read_checkpoint(f"hf://{NAME}")
    assert "is the copy in" in caplog.text
    assert "timed out" in caplog.text.lower()


def test_a_slow_hub_is_a_sentence(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(hub, folder)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.delay = 1.0
    with pytest.raises(CheckpointError, match="HF_HUB_ETAG_TIMEOUT") as caught:
        uniphd.load_model(f"hf://{NAME}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, r"refuses config.json of .* \(status 401\); log in"),
        (403, r"refuses config.json of .* \(status 403\); log in"),
        (404, "no repository|There is no|status 404"),
        (429, "status 429"),
        (500, "status 500"),
    ],
)
def test_a_refusal_is_a_sentence(hub: Hub, status: int, sentence: str) -> None:
    hub.status = status
    with pytest.raises(CheckpointError, match=sentence) as caught:
        uniphd.load_model(f"hf://{NAME}")
    assert "\n" not in str(caught.value)


def test_repositories_that_are_not_there_or_not_open(hub: Hub, folder: Path) -> None:
    with pytest.raises(CheckpointError, match=f"has no repository {NAME} that you may use"):
        uniphd.load_model(f"hf://{NAME}")
    repository = upload(hub, folder)
    with pytest.raises(CheckpointError, match="has no branch, tag or commit 'v2'"):
        uniphd.load_model(f"hf://{NAME}@v2")
    repository.gated = True
    with pytest.raises(CheckpointError, match="ask for access at"):
        uniphd.load_model(f"hf://{NAME}")
    repository.gated, repository.private = False, True
    with pytest.raises(CheckpointError, match="log in"):
        uniphd.load_model(f"hf://{NAME}")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_repository_without_a_file(hub: Hub, folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    upload(hub, folder)
    with pytest.raises(CheckpointError, match=f"^There is no {missing} of hf://{NAME}"):
        uniphd.load_model(f"hf://{NAME}")


@pytest.mark.parametrize(
    ("name", "size"), [("config.json", 5 << 20), ("model.safetensors", 1 << 40)]
)
def test_what_is_too_large_is_not_fetched(hub: Hub, folder: Path, name: str, size: int) -> None:
    upload(hub, folder).sizes[name] = size
    with pytest.raises(CheckpointError, match=f"{name} of .* is {size:,} bytes large"):
        uniphd.load_model(f"hf://{NAME}")
    assert name not in hub.fetched()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model.safetensors": b"\x80\x04."}, "model.safetensors is not a safetensors file"),
        ({"config.json": b"[]"}, "config.json is not a model configuration"),
        ({"config.json": b"{}"}, "config.json is not a model configuration"),
    ],
)
def test_files_that_are_not_a_model(
    hub: Hub, folder: Path, change: dict[str, bytes], sentence: str
) -> None:
    upload(hub, folder, **change)
    with pytest.raises(CheckpointError, match=sentence):
        uniphd.load_model(f"hf://{NAME}")


def test_another_keypoint_set_is_refused(hub: Hub, folder: Path) -> None:
    config, _ = read_checkpoint(folder)
    content = {"format": "uniphd-model-1", **asdict(config)}
    content["model"]["keypoints"] = "crowdpose"
    upload(hub, folder, **{"config.json": json.dumps(content).encode()})
    with pytest.raises(ConfigError, match="keypoint set crowdpose"):
        uniphd.load_model(f"hf://{NAME}")
    config, _ = read_checkpoint(f"hf://{NAME}")
    with pytest.raises(CheckpointError, match="keypoints=crowdpose, but keypoints=coco"):
        config.require_keypoints("coco", f"hf://{NAME}")


@pytest.mark.parametrize("name", ["roberta-base", "/etc", "../tokenizer", "tokenizer", "."])
def test_a_tokenizer_from_elsewhere_is_not_fetched(hub: Hub, folder: Path, name: str) -> None:
    config, _ = read_checkpoint(folder)
    content = {"format": "uniphd-model-1", **asdict(config)}
    content["tokenizer"] = {
        "_target_": "uniphd.models.tokenizer.HuggingFaceTokenizer",
        "name": name,
    }
    upload(hub, folder, **{"config.json": json.dumps(content).encode()})
    with pytest.raises(CheckpointError, match="is not in that repository"):
        uniphd.load_model(f"hf://{NAME}")


@pytest.mark.parametrize(
    "address",
    [
        *("hf://", "hf://name", "hf://a/b/c", "hf://a/", "hf:///b", "hf://a/b@", "hf://a/b@../x"),
        *("hf://a/b@c d", "hf://a b/c", "hf://a/b@c@d", "hf://a/..", "https://hub/a/b", "s3://a/b"),
        *("hf:/a", "hf://a/b?x", "hf://a/b#x", "hf://a/b@/x", "hf://a/b@x/"),
    ],
)
def test_malformed_addresses(hub: Hub, address: str) -> None:
    with pytest.raises(CheckpointError, match="hf://owner/name"):
        uniphd.load_model(address)
    assert hub.requests == []


def test_an_address_may_be_a_path(hub: Hub, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="hf://owner/name"):
        uniphd.load_model(Path("hf://people"))
    upload(hub, folder)
    read_checkpoint(Path(f"hf://{NAME}"))


def test_sending_needs_a_login(hub: Hub, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="log in") as caught:
        push(folder, NAME)
    assert "\n" not in str(caught.value)


def test_a_private_model_is_not_sent_to_a_public_repository(owner: Hub, folder: Path) -> None:
    push(folder, NAME)
    before = dict(owner.repositories[NAME].branches)
    with pytest.raises(CheckpointError, match="exists and is public, so nothing was sent"):
        push("synthetic_cpu", NAME, private=True)
    assert owner.repositories[NAME].branches == before


@pytest.mark.parametrize(("name", "revision"), [("people", None), ("a/b/c", None), (NAME, "a b")])
def test_nothing_is_sent_to_nowhere(
    owner: Hub, folder: Path, name: str, revision: str | None
) -> None:
    with pytest.raises(CheckpointError, match="give"):
        push(folder, name, revision=revision)
    assert owner.repositories == {}


def test_the_command(
    owner: Hub,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["uniphd-hub", "push", str(folder), NAME, "--revision", "v1"])
    command.main()
    address = f"hf://{NAME}@{owner.repositories[NAME].branches['v1']}"
    assert capsys.readouterr().out == f"Sent: {address}\n"
    saved = tmp_path / "saved"
    monkeypatch.setattr("sys.argv", ["uniphd-hub", "save", address, str(saved)])
    command.main()
    assert {path.name for path in saved.iterdir()} == {
        *("config.json", "model.safetensors", "README.md")
    }
    monkeypatch.setattr("sys.argv", ["uniphd-hub", "save", "hf://nobody", str(saved)])
    with pytest.raises(SystemExit, match=r"^uniphd-hub: 'hf://nobody' does not name an owner"):
        command.main()


@pytest.mark.slow
def test_the_endpoint_of_the_environment_is_used(hub: Hub, folder: Path, tmp_path: Path) -> None:
    upload(hub, folder)
    code = f"import uniphd; uniphd.load_model('hf://{NAME}')"
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    run: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run([sys.executable, "-c", code], env={**_path(), **environment}, **run)
    assert done.returncode == 0, done.stderr
    assert hub.fetched() == ["config.json", "model.safetensors"]


def _path() -> dict[str, str]:
    return {key: os.environ[key] for key in ("PATH", "PYTHONPATH", "HOME") if key in os.environ}
