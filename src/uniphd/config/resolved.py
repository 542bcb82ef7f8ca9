"""The resolved configuration of a run: what is meant once every interpolation is filled in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf


def resolved(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain values, with every interpolation filled in."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


def write_resolved(config: Mapping[str, Any], folder: str | Path) -> None:
    """Write `config_resolved.yaml` beside Hydra's own copy, which keeps its interpolations.

    Args:
        config: as `resolved` gives it.
        folder: of the run.
    """
    path = Path(folder) / ".hydra" / "config_resolved.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
