"""Convert checkpoints: the official release, Microsoft's ImageNet Swin models, and our own runs."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniphd.checkpoints.checksum import require_whole
from uniphd.checkpoints.folder import (
    CONFIG_KEY,
    ModelConfig,
    read_run,
    save_folder,
    write_weights,
)
from uniphd.checkpoints.official import official_config, to_uniphd
from uniphd.checkpoints.safety import build_from_checkpoint, require_fit
from uniphd.checkpoints.swin import swin_options, to_timm_swin
from uniphd.errors import CheckpointError
from uniphd.models.backbone import Backbone
from uniphd.models.build import build_model

BACKBONE_FILE = "backbone.safetensors"
_MISFIT = "The checkpoint does not fit the network"
_SWIN_IGNORED = ("head.", "norm.")
_SWIN_CONSTANTS = ("relative_position_index", "attn_mask")


@dataclass(frozen=True)
class Conversion:
    """What became of a checkpoint's entries.

    Attributes:
        kind: "uniphd", "swin" or "run".
        converted: entries written.
        skipped: names of aliases, constants and classification heads that are not needed.
        path: the file or folder written.
    """

    kind: str
    converted: int
    skipped: tuple[str, ...]
    path: Path


def convert(
    source: Path, out: Path, tokenizer: str = "roberta-base", half: bool = False
) -> Conversion:
    """Convert a checkpoint file to `out`.

    The official release becomes a model folder that `uniphd.load_model` reads; a Swin classifier
    becomes `backbone.safetensors` for `backbone.weights=`; a checkpoint of `uniphd-train` becomes a
    model folder without the optimizer's state. Nothing pickled is executed.

    Args:
        source: `.pth` or `.ckpt` file.
        out: folder to write.
        tokenizer: Hugging Face name or folder of the official text encoder's tokenizer.
        half: whether a run's weights are stored as float16, in half the space.

    Raises:
        CheckpointError: the file cannot be read safely, or keys or shapes do not fit.
    """
    content = read_pickle_safely(source)
    if CONFIG_KEY in content:
        config, weights = read_run(content, source)
        build_from_checkpoint(config.model, weights, source)
        if half:
            weights = {name: _to_half(value) for name, value in weights.items()}
        save_folder(out, config, weights)
        return Conversion("run", len(weights), (), out)
    state = _state_dict(content, source)
    try:
        if "transformer.level_embed" in state:
            return _convert_official(state, _num_queries(content), out, tokenizer)
        if "patch_embed.proj.weight" in state:
            return _convert_swin(state, out)
    except (LookupError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"{source} has the names of a known checkpoint and not its shapes: {error}."
        ) from error
    raise CheckpointError(
        f"{source} is neither an official UniPHD checkpoint (it lacks 'transformer.level_embed') "
        "nor a Microsoft Swin checkpoint (it lacks 'patch_embed.proj.weight') nor one of "
        "uniphd-train."
    )


def _to_half(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def read_pickle_safely(source: Path) -> Mapping[str, Any]:
    """Load a torch checkpoint with `weights_only=True`, allowing only `argparse.Namespace` besides.

    Raises:
        CheckpointError: the file is missing, damaged, or would execute code.
    """
    try:
        require_whole(source)
        _require_uncompressed(source)
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint file {source}.") from error
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n", 1)[0]
        raise CheckpointError(
            f"{source} was not loaded, because it is damaged or asks for code to be executed: "
            f"{reason}"
        ) from error
    except Exception as error:  # readers of damaged files raise nearly anything
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise CheckpointError(f"{source} is not a readable checkpoint: {reason}.") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source} holds a {type(content).__name__}, not a state dict.")
    return content


def _require_uncompressed(source: Path) -> None:
    """Refuse archives that are larger than their file; `torch.save` compresses nothing."""
    if not zipfile.is_zipfile(source):
        return
    with zipfile.ZipFile(source) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > source.stat().st_size
    ):
        raise CheckpointError(
            f"{source} is a compressed archive, which may grow without limit when it is read; "
            "give a file as torch.save writes it."
        )


def _state_dict(content: Mapping[str, Any], source: Path) -> dict[str, Tensor]:
    """The tensors by name, from the usual wrappers, without DataParallel's prefix."""
    state = content.get("model", content)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"The entry 'model' of {source} is not a state dict.")
    return {
        str(key).removeprefix("module."): value
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def _num_queries(content: Mapping[str, Any]) -> int:
    return int(getattr(content.get("args"), "num_group", 20))


def _convert_official(
    state: Mapping[str, Tensor], num_queries: int, out: Path, tokenizer: str
) -> Conversion:
    try:
        config = official_config(state, num_queries)
    except KeyError as error:
        raise CheckpointError(f"The official checkpoint lacks the entry {error}.") from error
    weights, skipped, unknown = _rename(state, to_uniphd)
    with torch.device("meta"):
        expected = build_model(config).state_dict()
    require_fit(weights, expected, _MISFIT, unknown)
    tokenizer_config = {
        "_target_": "uniphd.models.tokenizer.HuggingFaceTokenizer",
        "name": tokenizer,
    }
    floats = {name: value.float() for name, value in weights.items()}
    save_folder(out, ModelConfig(model=config, tokenizer=tokenizer_config), floats)
    return Conversion("uniphd", len(weights), skipped, out)


def _convert_swin(state: Mapping[str, Tensor], out: Path) -> Conversion:
    options = swin_options(state)

    def rename(key: str) -> str | None:
        ignored = key.startswith(_SWIN_IGNORED) or key.endswith(_SWIN_CONSTANTS)
        return None if ignored else to_timm_swin(key)

    weights, skipped, unknown = _rename(state, rename)
    with torch.device("meta"):
        expected = Backbone(**options).body.state_dict()
    require_fit(weights, expected, _MISFIT, unknown)
    out.mkdir(parents=True, exist_ok=True)
    path = out / BACKBONE_FILE
    write_weights(path, {key: value.float() for key, value in weights.items()})
    return Conversion("swin", len(weights), skipped, path)


def _rename(
    state: Mapping[str, Tensor], rename: Any
) -> tuple[dict[str, Tensor], tuple[str, ...], list[str]]:
    """Renamed entries, the names that are not needed, and the names that are not known."""
    weights: dict[str, Tensor] = {}
    skipped: list[str] = []
    unknown: list[str] = []
    for key, value in state.items():
        try:
            name = rename(key)
        except KeyError:
            unknown.append(key)
            continue
        if name is None:
            skipped.append(key)
        else:
            weights[name] = value
    return weights, tuple(skipped), unknown
