"""The official network with the golden folder's weights, brought in through our own converter."""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from pathlib import Path

import torch

import uniphd
from uniphd.checkpoints.convert import convert
from uniphd.models.uniphd import UniPHD


def load_official_network(golden: Path) -> UniPHD:
    """Fill the official state dict by rule, save it as the official release does, convert, load.

    The network takes images that are normalised already, as the golden files have them.

    Args:
        golden: folder with `fill_rule.py` and `reference_state_dict.json`.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "official.pth", Path(folder) / "converted"
        torch.save(official_checkpoint(golden), source)
        convert(source, out)
        source.unlink()
        network = uniphd.load_model(out)
    network.backbone.mean, network.backbone.deviation = (0.0,) * 3, (1.0,) * 3
    return network


def official_checkpoint(golden: Path) -> dict[str, object]:
    """A checkpoint as the official release writes it, with weights by the fill rule."""
    specification = importlib.util.spec_from_file_location("fill_rule", golden / "fill_rule.py")
    if specification is None or specification.loader is None:
        raise FileNotFoundError(f"{golden} has no fill_rule.py")
    rule = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(rule)
    entries = json.loads((golden / "reference_state_dict.json").read_text())["entries"]
    state = {
        entry["key"]: rule.fill(entry["key"], entry["shape"])
        if entry["dtype"] == "float32"
        else torch.zeros(entry["shape"], dtype=torch.int64)
        for entry in entries
    }
    return {"model": state, "args": argparse.Namespace(num_group=20), "epoch": 19}
