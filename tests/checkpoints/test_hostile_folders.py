"""Files of model folders that are nearly what they should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import uniphd
from tests.checkpoints.contents import run_content
from uniphd.checkpoints.folder import CONFIG_KEY, save_folder
from uniphd.checkpoints.reading import read_checkpoint
from uniphd.checkpoints.safety import require_fit
from uniphd.errors import CheckpointError, UniPHDError


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'"max_size": ', b'"max_size": NaN, "max_size": ', "twice"),
        (b'"num_layers": 1', b'"num_layers": Infinity', "a number is inf"),
        (b'"dropout": 0.0', b'"dropout": 1e999', "a number is inf"),
        (b'"dropout": 0.0', b'"dropout": ' + b"1" * 5000, "is not a model configuration"),
        (b'"format"', b'"format": "uniphd-model-1", "format"', "it has 'format' twice"),
        (b"{", b"\xef\xbb\xbf{", "BOM"),
        (b'"coco"', '"cocö"'.encode("latin-1"), "utf-8"),
        (b'"coco"', b'["coco"]', "cannot be built"),
        (b'"coco"', b'"\\ud800"', "keypoints is"),
        (b'"model": {', b'"model": {"x": [' + b"[]," * 10**5 + b"1],", "more than 100,000 values"),
        (b'"model": {', b'"model": {"x": ' + b" " * 5 * 10**6 + b"1,", "larger than 4 MiB"),
    ],
)
def test_files_that_are_nearly_json(folder: Path, old: bytes, new: bytes, says: str) -> None:
    path = folder / "config.json"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(UniPHDError, match=says) as caught:
        uniphd.load_model(folder)
    assert str(caught.value).isprintable()


def test_few_values_that_stand_for_many(folder: Path, tmp_path: Path) -> None:
    run, many = run_content(folder), [0]
    for _ in range(40):
        many = [many, many]  # type: ignore[list-item]
    run[CONFIG_KEY]["model"]["x"] = many
    torch.save(run, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="more than 100,000 values"):
        uniphd.load_model(tmp_path / "last.ckpt")


def header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of a safetensors file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    change(entries)
    made = json.dumps(entries).encode()
    path.write_bytes(len(made).to_bytes(8, "little") + made + content[8 + length :])


def first(entries: dict[str, Any]) -> dict[str, Any]:
    return next(value for name, value in entries.items() if value.get("dtype") == "F32")


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: first(entries).update(data_offsets=[0, 2**40]),
        lambda entries: first(entries).update(shape=[2**40]),
        lambda entries: first(entries).update(shape=[-1]),
        lambda entries: first(entries).update(dtype="I32"),
        lambda entries: first(entries).update(dtype="F8_E8M0"),
        lambda entries: first(entries).update(dtype="F4"),
        lambda entries: first(entries).update(dtype="X"),
        lambda entries: entries.update(
            {f"empty{n}": {**first(entries), "shape": [0]} for n in "ab"}
        ),
        lambda entries: entries.update(more=first(entries)),
        lambda entries: entries.popitem(),
        lambda entries: entries.update(__metadata__={"format": {"x": 1}}),
    ],
)
def test_headers_of_safetensors(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    header(folder / "model.safetensors", change)
    with pytest.raises(CheckpointError, match=r"not a safetensors file|do not fit"):
        uniphd.load_model(folder)


def test_a_header_that_is_longer_than_its_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        uniphd.load_model(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda value: value.long(), r"1 entry of another kind .*int64 instead of torch.float32"),
        (lambda value: value.to(torch.float8_e4m3fn), "of another kind"),
        (lambda value: value.to(torch.complex64), "of another kind"),
        (lambda value: value.double().fill_(1e300), "NaN or infinite"),
        (lambda value: value.clone().fill_(float("nan")), "NaN or infinite"),
        (lambda value: value.clone().fill_(float("inf")), "NaN or infinite"),
    ],
)
def test_weights_of_other_kinds(
    folder: Path, change: Callable[[torch.Tensor], torch.Tensor], says: str
) -> None:
    config, weights = read_checkpoint(folder)
    name = next(iter(weights))
    save_folder(folder, config, {**weights, name: change(weights[name])})
    with pytest.raises(CheckpointError, match=says):
        uniphd.load_model(folder)


def test_one_tensor_in_place_of_many() -> None:
    one = torch.ones(1000)
    require_fit({"a": one, "b": one, "c": one}, {"a": one, "b": one, "c": one}, "tied")
    many = {str(number): one for number in range(9)}
    with pytest.raises(CheckpointError, match="many of them are the same elements"):
        require_fit(many, many, "The weights do not fit")
