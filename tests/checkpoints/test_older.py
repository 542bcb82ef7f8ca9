"""Names of earlier versions in checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import uniphd
from uniphd.checkpoints.older import renamed_config, renamed_run
from uniphd.models.tokenizer import HashTokenizer
from uniphd.prompts import PointPrompt, TextPrompt, batch_prompts

PACKAGED = Path(uniphd.__file__).parent / "weights" / "synthetic_cpu"
OLDER = Path(__file__).with_name("config_0_1.json")  # of the network that version 0.1 came with

# What version 0.1 called its weights, written out here once more.
OLDER_WEIGHTS = {
    "fusion.spatial_attention.": "fusion.region_attention.",
    "fusion.spatial_product.": "fusion.region_product.",
    "prompt_encoder.spatial_projection.": "prompt_encoder.region_projection.",
    "prompt_encoder.spatial_global_projection.": "prompt_encoder.region_summary.",
    "query_selection.heatmaps.": "query_selection.keypoint_maps.",
}


def older_name(name: str) -> str:
    for new, old in OLDER_WEIGHTS.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


def predict(path: str | Path) -> torch.Tensor:
    """Logits, boxes and keypoints of a text and of a point prompt, (2, numbers)."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    image = torch.stack([rows * 2, columns * 2, (rows * columns) % 256]).byte()
    prompts = [TextPrompt("the woman with a red hat"), PointPrompt(torch.tensor([30.0, 40.0]))]
    with torch.inference_mode():
        final = uniphd.load_model(path)(
            image.expand(2, -1, -1, -1),
            torch.zeros(2, 96, 96, dtype=torch.bool),
            ((96, 96), (96, 96)),
            batch_prompts(prompts, HashTokenizer(vocab_size=4096, max_length=64)),
        ).final
    parts = [final.logits, final.boxes, final.keypoints]
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def test_a_folder_of_version_0_1_loads_and_computes_the_same(tmp_path: Path) -> None:
    weights = load_file(PACKAGED / "model.safetensors")
    older = {older_name(name): value for name, value in weights.items()}
    assert sum(name not in weights for name in older) > 20
    save_file(older, tmp_path / "model.safetensors")
    shutil.copy(OLDER, tmp_path / "config.json")
    assert torch.equal(predict(tmp_path), predict("synthetic_cpu"))


def test_names_of_a_configuration() -> None:
    renamed = renamed_config(json.loads(OLDER.read_text()))
    model = renamed["model"]
    assert model["rescoring"]["_target_"] == "uniphd.models.rescoring.GroundingRescoring"
    assert model["query_selection"]["heatmap_dim"] == 64
    assert "evidence" not in model
    assert renamed_config(renamed) == renamed


@pytest.mark.parametrize("state", ["state_dict", "current_model_state"])
def test_names_of_a_run(state: str) -> None:
    old = {"model.query_selection.keypoint_maps.logits.bias": 1, "model.heads.0.x": 2}
    new = {"model.query_selection.heatmaps.logits.bias": 1, "model.heads.0.x": 2}
    assert renamed_run({state: old, "epoch": 3}) == {state: new, "epoch": 3}
    assert renamed_run({state: new}) == {state: new}
