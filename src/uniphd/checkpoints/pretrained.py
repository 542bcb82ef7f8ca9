"""A model folder to be handed on: network, tokenizer and model card, without any other file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from uniphd.checkpoints.card import model_card
from uniphd.checkpoints.folder import (
    CONFIG_FILE,
    OWN_TOKENIZER,
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    ModelConfig,
    save_folder,
)
from uniphd.checkpoints.provenance import find_provenance
from uniphd.checkpoints.reading import portable_config, read_checkpoint
from uniphd.checkpoints.safety import build_from_checkpoint
from uniphd.errors import ConfigError
from uniphd.models.build import build_tokenizer
from uniphd.training.fault_tolerance.files import replacing

CARD_FILE = "README.md"
_PROBES = ("the woman on the left", "A tall man's red-ish T-shirt, 2nd from the right!", "éa 人")


def save_pretrained(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    run: str | os.PathLike[str] | None = None,
    metrics: str | os.PathLike[str] | None = None,
    license: str | None = None,
    repository: str = "OWNER/NAME",
) -> tuple[str, ...]:
    """Write all that a model needs on another machine, and a model card that says where it is from.

    It takes what `load_model` takes, and not a network or a `Predictor`: a network knows neither
    its tokenizer nor its image size, and neither of the two knows the run it is from.

    Args:
        model: checkpoint, model folder, packaged model or address.
        folder: to write to, created when missing; files of the same names are replaced.
        run: the folder of the training, for a model that is no checkpoint of it.
        metrics: `metrics.json` of `uniphd-eval` for this model; otherwise the card has the
            validation of the training at this checkpoint, if there is one.
        license: identifier of the weights' licence on the hub, such as "cc-by-4.0"; the card says
            that there is none where it is None.
        repository: on the hub, for the card's example.

    Returns:
        The names of the files, relative to the folder.

    Raises:
        CheckpointError: the model cannot be read; see `load_model`.
        ConfigError: its tokenizer cannot be stored, or a record cannot be read.
        StorageError: the disk is full, or the folder cannot be written to.
    """
    folder = Path(folder)
    config, weights = read_checkpoint(os.fspath(model))
    network = build_from_checkpoint(config.model, weights, model)
    provenance = find_provenance(model, run, metrics)
    portable = ModelConfig(**portable_config(config, network))
    portable, names = with_stored_tokenizer(portable, folder)
    save_folder(folder, portable, weights)
    text = model_card(portable, network, provenance, license, repository)
    with replacing(folder / CARD_FILE) as file:
        file.write(text.encode())
    return (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, *names)


def with_stored_tokenizer(config: ModelConfig, folder: Path) -> tuple[ModelConfig, tuple[str, ...]]:
    """Write the tokenizer's files; the configuration that names them, and their names."""
    tokenizer = build_tokenizer(config.tokenizer)
    contents = tokenizer.files()  # type: ignore[attr-defined]
    if not contents:
        return config, ()
    place = folder / TOKENIZER_FOLDER
    for name, content in contents.items():
        with replacing(place / name) as file:
            file.write(content)
    again = build_tokenizer({**config.tokenizer, "name": str(place)})
    pairs = zip(tokenizer(_PROBES), again(_PROBES), strict=True)
    if not all(torch.equal(*pair) for pair in pairs):
        raise ConfigError(
            f"The tokenizer '{config.tokenizer.get('name')}' gives other ids when it is read from "
            f"{place}, so that it cannot be stored beside a network."
        )
    stored = replace(config, tokenizer={**config.tokenizer, "name": OWN_TOKENIZER})
    return stored, tuple(f"{TOKENIZER_FOLDER}/{name}" for name in contents)
