"""What a checkpoint may ask for: files come from strangers, so their contents are only data.

`uniphd.models.build` constructs classes of this package and no others. Two of those hand arguments
on to libraries that can download files or code, which no checkpoint of ours asks for: the weights
are in the checkpoint. And a network is as large as its configuration says: it is built without
memory first, and compared with what the file holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from uniphd.checkpoints.budget import Budget
from uniphd.checkpoints.parts import require_parts
from uniphd.errors import CheckpointError, ConfigError, UniPHDError
from uniphd.models.build import build_model
from uniphd.models.uniphd import UniPHD

# Arguments of `uniphd.models` and of timm that load a file or a download, and transformers' key
# for code beside a configuration.
_LOADING = re.compile(r"pretrained\w*|weights|checkpoint_path|auto_map")
# Names of a timm model or of an implementation in transformers; no "hf-hub:", "local-dir:" or path,
# and no "owner/name", which would be a kernel to download.
_NAMING = re.compile(r"name|\w*_implementation\w*")
_PLAIN_NAME = re.compile(r"[\w.|-]*")
# What transformers' models that hold another model look up, be it by a name without an owner.
_HOLDING = re.compile(r"\w*(pretrained|backbone|trust_remote_code)\w*|architecture")
_ADDRESS = re.compile(r"[/\\:]")
# No honest setting is larger, be it a vocabulary; constructors count up to some of them.
# Frequencies are no counts.
_LARGEST = 1 << 20
_FREQUENCY = re.compile(r"\w*theta")
# Memory of every image grows with its square.
_MOST_QUERIES = 1_000
_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_ALIASES = 4  # how often weights may be the same elements, by tied embeddings and the like


def build_from_checkpoint(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], source: object
) -> UniPHD:
    """Construct the network that a checkpoint describes, once its weights are known to fit.

    Args:
        config: constructor tree of the checkpoint.
        weights: of the checkpoint; they are compared, not loaded.
        source: the checkpoint, for messages.

    Raises:
        CheckpointError: the configuration asks for a file, a download or unreasonable sizes, cannot
            be built, or the weights are not of this network.
        ConfigError: a class is not one of ours or does not take its arguments.
    """
    expected = expected_weights(config, weights, source)
    require_fit(weights, expected, f"The weights of {source} do not fit its configuration")
    return _build(config, source)


def expected_weights(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], source: object
) -> dict[str, Tensor]:
    """The weights, without memory, of the network that a checkpoint describes.

    Args:
        config: constructor tree, of plain values.
        weights: of the checkpoint, from which it is known how large the network may be.
        source: the checkpoint, for messages.

    Raises:
        CheckpointError: the configuration asks for a file, a download or unreasonable sizes, cannot
            be built, or is of a much larger network.
        ConfigError: a class is not one of ours or does not take its arguments.
    """
    _require_own(config, source)
    with Budget(weights, source), torch.device("meta"):  # takes no memory, whatever the sizes
        network = _build(config, source)
        require_parts(network, f"The configuration of {source}")
        return network.state_dict()


def require_fit(
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    summary: str,
    unknown: Iterable[str] = (),
) -> None:
    """Compare names and shapes, and look for values that are no numbers; say all that is wrong.

    Args:
        weights: of a checkpoint.
        expected: what the network has.
        summary: what to say when they differ, without a full stop.
        unknown: further names of the checkpoint, which the network certainly lacks.

    Raises:
        CheckpointError: a name is missing or left over, a shape or kind of number differs, many
            weights are the same elements, or a value is NaN or infinite.
    """
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
        _listing(
            "of another kind",
            [
                f"{key} {weights[key].dtype} instead of {expected[key].dtype}"
                for key in sorted(weights.keys() & expected.keys())
                if not same_kind(weights[key], expected[key])
            ],
        ),
    ]
    if any(problems):
        found = "; ".join(problem for problem in problems if problem)
        raise CheckpointError(f"{summary}: {found}.")
    _require_separate(weights, summary)
    require_finite(weights, summary)


def _require_separate(weights: Mapping[str, Tensor], summary: str) -> None:
    """Refuse a few elements as many weights, which the network would hold one by one."""
    storages = [value.untyped_storage() for value in weights.values()]
    stored = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    if sum(value.nbytes for value in weights.values()) > _ALIASES * stored:
        raise CheckpointError(f"{summary}: many of them are the same elements.")


def same_kind(weight: Tensor, expected: Tensor) -> bool:
    """Whether a weight can become another without a loss: floats floats, integers integers."""
    if expected.is_floating_point():
        return weight.dtype in _FLOATS
    return not (weight.is_floating_point() or weight.is_complex())


def require_finite(weights: Mapping[str, Tensor], summary: str) -> None:
    """Refuse weights that are no numbers, of a training that diverged.

    Raises:
        CheckpointError: a value is NaN or infinite, or becomes so as a number of four bytes.
    """
    names = [
        name
        for name, value in weights.items()
        if not bool((value.float() if value.dtype is torch.double else value).isfinite().all())
    ]
    if names:
        found = _listing("with NaN or infinite values", names)
        raise CheckpointError(f"{summary}: {found}; use a checkpoint from before they appeared.")


def _build(config: Mapping[str, Any], source: object) -> UniPHD:
    try:
        network = build_model(config)
    except ConfigError as error:
        raise ConfigError(f"The configuration of {source} cannot be built: {error}") from error
    except UniPHDError:
        raise
    except Exception as error:  # a constructor fails at senseless arguments in any way
        reason = str(error) or type(error).__name__
        raise CheckpointError(
            f"The configuration of {source} cannot be built: {reason}."
        ) from error
    if not isinstance(network, UniPHD):
        raise CheckpointError(
            f"The configuration of {source} is for a {type(network).__name__}, not for a network "
            "of uniphd-train or uniphd-convert."
        )
    return network


def _require_own(config: Mapping[str, Any], source: object) -> None:
    for node in _mappings(config):
        if str(node.get("_target_")).endswith(".TextEncoder"):
            _require_described(node, source)
        for key, value in node.items():
            loads = _LOADING.fullmatch(str(key)) and value not in (None, False)
            named = _NAMING.fullmatch(str(key)) and value is not None
            if loads or (named and not _PLAIN_NAME.fullmatch(str(value))):
                raise CheckpointError(_refusal(source, key, value))
            _require_small(key, value, source)


def _require_small(key: Any, value: Any, source: object) -> None:
    most = _MOST_QUERIES if key == "num_queries" else _LARGEST
    largest = max((abs(n) for n in _values(value) if isinstance(n, int)), default=0)
    if largest > most and not _FREQUENCY.fullmatch(str(key)):
        raise CheckpointError(
            f"The configuration of {source} has '{key}': {value!r:.80}; more than {most} is "
            "refused."
        )


def _require_described(text_encoder: Mapping[Any, Any], source: object) -> None:
    """Refuse a language model that has to be fetched, as a whole or a part of it."""
    if text_encoder.get("name") is not None:
        raise CheckpointError(_refusal(source, "name", text_encoder["name"]))
    for part in _mappings(text_encoder.get("config")):
        for key, value in part.items():
            names = [name for name in _values(value) if isinstance(name, str)]
            # Where the model was from once is said there, and not read again.
            addressed = key != "_name_or_path" and any(map(_ADDRESS.search, names))
            if addressed or (value and _HOLDING.fullmatch(str(key))):
                raise CheckpointError(_refusal(source, key, value))


def _refusal(source: object, key: object, value: object) -> str:
    return (
        f"The configuration of {source} asks to load '{key}': {value!r:.80}; a checkpoint holds "
        "its weights itself, so this was not done."
    )


def _values(value: Any) -> Sequence[Any]:
    """The items of a list; anything else as the only item of one."""
    return value if isinstance(value, list | tuple) else [value]


def _mappings(node: Any) -> Iterator[Mapping[Any, Any]]:
    """All mappings in nested containers, the outermost first."""
    if isinstance(node, Mapping):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            yield from _mappings(value)


def _listing(what: str, names: list[str]) -> str:
    """Such as "3 entries missing (a, b, c)", cut after five names; empty when there are none."""
    if not names:
        return ""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} {'entry' if len(names) == 1 else 'entries'} {what} ({shown})"
