"""Reading and changing what is in model folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uniphd.checkpoints.folder import CONFIG_KEY
from uniphd.checkpoints.reading import read_checkpoint


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def run_content(folder: Path) -> dict[str, Any]:
    config, weights = read_checkpoint(folder)
    plain = {"model": config.model, "tokenizer": config.tokenizer}
    return {CONFIG_KEY: plain, "state_dict": {f"model.{k}": v for k, v in weights.items()}}
