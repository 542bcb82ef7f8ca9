"""Convert checkpoints: the official release, Microsoft's ImageNet Swin models, and our own runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniphd.checkpoints.folder import (
    COMPILED,
    CONFIG_KEY,
    ModelConfig,
    read_run,
    save_folder,
    write_weights,
)
from uniphd.checkpoints.official import official_config, to_uniphd
from uniphd.checkpoints.pickled import read_pickle_safely
from uniphd.checkpoints.safety import build_from_checkpoint, expected_weights, require_fit
from uniphd.checkpoints.swin import swin_options, to_timm_swin
from uniphd.errors import CheckpointError
from uniphd.models.backbone import Backbone

BACKBONE_FILE = "backbone.safetensors"
_MISFIT = "The checkpoint does not fit the network"
_OFFICIAL_MARK = "transformer.level_embed"
_SWIN_MARK = "patch_embed.proj.weight"
_MOST_WRAPPERS = 3
_SWIN_IGNORED = ("head.", "norm.")
_SWIN_CONSTANTS = ("relative_position_index", "attn_mask")


@dataclass(frozen=True)
class Conversion:
    """What became of a checkpoint's entries.

    Attributes:
        kind: "uniphd", "swin" or "run".
        converted: entries written.
        skipped: names of aliases, constants, classification heads and what else is not of the
            network.
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
        StorageError: the disk is full, or the folder cannot be written to.
    """
    content = read_pickle_safely(source)
    if CONFIG_KEY in content:
        config, weights = read_run(content, source)
        build_from_checkpoint(config.model, weights, source)
        if half:
            weights = _to_half(weights)
        save_folder(out, config, weights)
        return Conversion("run", len(weights), (), out)
    state, others = _network(content, source)
    try:
        if _OFFICIAL_MARK in state:
            done = _convert_official(state, _num_queries(content), source, out, tokenizer)
        else:
            done = _convert_swin(state, out)
    except (LookupError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"{source} has the names of a known checkpoint and not its shapes: {error}."
        ) from error
    return replace(done, skipped=(*done.skipped, *others))


def _to_half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in weights.items()
    }
    if large := [name for name, value in half.items() if not bool(value.isfinite().all())]:
        raise CheckpointError(
            f"{_names(large)} has values beyond 65504, which float16 cannot hold; convert without "
            "--half."
        )
    return half


def _network(content: Mapping[Any, Any], source: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by name, without the wrappers and prefixes that programs put around a network.

    Returns:
        The network's tensors, and the names of those outside of it.

    Raises:
        CheckpointError: there is no network that is known, or more than one.
    """
    states = list(_states(content, "", set(), _MOST_WRAPPERS))
    for mark in (_OFFICIAL_MARK, _SWIN_MARK):
        found = [
            (where, state, key.removesuffix(mark))
            for where, state in states
            for key in state
            if f".{key}".endswith(f".{mark}")
        ]
        if len(found) > 1:
            places = [where + prefix for where, _, prefix in found]
            raise CheckpointError(
                f"{source} holds {len(found)} networks, below {_names(places)}; save the one "
                "that you mean alone."
            )
        for _, state, prefix in found:
            inside = [key for key in state if key.startswith(prefix)]
            others = [key for key in state if not key.startswith(prefix)]
            return {key.removeprefix(prefix): state[key] for key in inside}, others
    names = [key for _, state in states for key in state] or content
    raise CheckpointError(
        f"{source} is neither an official UniPHD checkpoint (it lacks '{_OFFICIAL_MARK}') nor a "
        f"Microsoft Swin checkpoint (it lacks '{_SWIN_MARK}') nor one of uniphd-train; "
        f"it has {_names(names) or 'no entry'}."
    )


def _states(
    content: Mapping[Any, Any], where: str, seen: set[int], depth: int
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """All mappings that hold tensors, with the names of the mappings around them."""
    if id(content) in seen:
        return
    seen.add(id(content))
    tensors = {
        key.replace(COMPILED, ""): value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if tensors:
        yield where, tensors
    for key, value in content.items():
        if depth and isinstance(value, Mapping):
            yield from _states(value, f"{where}{key!s:.60}.", seen, depth - 1)


def _names(names: Iterable[str]) -> str:
    """The first five, as they can be printed."""
    shown = [f"{name!r:.60}" for name in names]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def _num_queries(content: Mapping[str, Any]) -> int:
    options = content.get("args")
    if isinstance(options, Mapping):
        return int(options.get("num_group", 20))
    return int(getattr(options, "num_group", 20))


def _convert_official(
    state: Mapping[str, Tensor], num_queries: int, source: Path, out: Path, tokenizer: str
) -> Conversion:
    try:
        config = official_config(state, num_queries)
    except KeyError as error:
        raise CheckpointError(f"The official checkpoint lacks the entry {error}.") from error
    weights, skipped, unknown = _rename(state, to_uniphd)
    require_fit(weights, expected_weights(config, state, source), _MISFIT, unknown)
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
