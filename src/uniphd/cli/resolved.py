"""The resolved configuration of a run: what is meant once every interpolation is filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf


def resolved(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain values, with every interpolation filled in."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


def write_resolved(config: DictConfig) -> None:
    """Write `config_resolved.yaml` beside Hydra's own copy, which keeps its interpolations."""
    folder = Path(config.paths.output_dir) / ".hydra"
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "config_resolved.yaml", resolve=True)
