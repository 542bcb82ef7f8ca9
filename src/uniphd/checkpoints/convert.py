"""Convert checkpoints: the official release, Microsoft's ImageNet Swin models, and our own runs."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from uniphd.checkpoints.official import official_config, to_uniphd
from uniphd.checkpoints.store import CONFIG_KEY, ModelConfig, read_run, save_folder
from uniphd.checkpoints.swin import swin_options, to_timm_swin
from uniphd.errors import CheckpointError
from uniphd.models.backbone import Backbone
from uniphd.models.build import build_model

BACKBONE_FILE = "backbone.safetensors"
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
        config, weights = read_run(content)
        if half:
            weights = {name: _to_half(value) for name, value in weights.items()}
        save_folder(out, config, weights)
        return Conversion("run", len(weights), (), out)
    state = _state_dict(content, source)
    if "transformer.level_embed" in state:
        return _convert_official(state, _num_queries(content), out, tokenizer)
    if "patch_embed.proj.weight" in state:
        return _convert_swin(state, out)
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
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint file {source}.") from error
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n", 1)[0]
        raise CheckpointError(
            f"{source} was not loaded, because it is damaged or asks for code to be executed: "
            f"{reason}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{source} is not a readable checkpoint: {error}.") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source} holds a {type(content).__name__}, not a state dict.")
    return content


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
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"The official checkpoint lacks the entry {error}.") from error
    weights, skipped, unknown = _rename(state, to_uniphd)
    with torch.device("meta"):
        expected = build_model(config).state_dict()
    _check(weights, expected, unknown)
    tokenizer_config = {
        "_target_": "uniphd.models.tokenizer.HuggingFaceTokenizer",
        "name": tokenizer,
    }
    save_folder(out, ModelConfig(model=config, tokenizer=tokenizer_config), weights)
    return Conversion("uniphd", len(weights), skipped, out)


def _convert_swin(state: Mapping[str, Tensor], out: Path) -> Conversion:
    options = swin_options(state)

    def rename(key: str) -> str | None:
        ignored = key.startswith(_SWIN_IGNORED) or key.endswith(_SWIN_CONSTANTS)
        return None if ignored else to_timm_swin(key)

    weights, skipped, unknown = _rename(state, rename)
    with torch.device("meta"):
        expected = Backbone(**options).body.state_dict()
    _check(weights, expected, unknown)
    out.mkdir(parents=True, exist_ok=True)
    path = out / BACKBONE_FILE
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
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
            weights[name] = value.float()
    return weights, tuple(skipped), unknown


def _check(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], unknown: Sequence[str]
) -> None:
    """Compare names and shapes; say all that is wrong at once."""
    problems = [
        _listing("missing", sorted(expected.keys() - weights.keys())),
        _listing("left over", sorted([*unknown, *(weights.keys() - expected.keys())])),
        _listing(
            "of another shape",
            [
                f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
                for key in sorted(weights.keys() & expected.keys())
                if weights[key].shape != expected[key].shape
            ],
        ),
    ]
    if any(problems):
        found = "; ".join(problem for problem in problems if problem)
        raise CheckpointError(f"The checkpoint does not fit the network: {found}.")


def _listing(what: str, names: Sequence[str]) -> str:
    """Such as "3 entries missing (a, b, c)", cut after five names; empty when there are none."""
    if not names:
        return ""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} {'entry' if len(names) == 1 else 'entries'} {what} ({shown})"
