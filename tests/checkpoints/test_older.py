"""Names of earlier versions in checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import uniphd
from uniphd.checkpoints.older import renamed_config, renamed_run
from uniphd.models.tokenizer import HashTokenizer
from uniphd.prompts import PointPrompt, TextPrompt, batch_prompts

PACKAGED = Path(uniphd.__file__).parent / "weights" / "synthetic_cpu"

# Class logits of the four queries, then box and first keypoint of the first, per prompt.
EXPECTED = [
    [-0.51004, -0.49148, -0.45142, -0.89715, 0.79852, 0.50422, 0.32272, 0.92988, 0.85992, 0.19555],
    [1.68355, -4.19269, -3.01123, -3.67327, 0.32967, 0.51131, 0.31504, 0.84114, 0.33673, 0.22652],
]


def test_the_packaged_network_says_what_it_said_when_it_was_packaged() -> None:
    """Its file has names of then; the numbers were computed by the code of then."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    image = torch.stack([rows * 2, columns * 2, (rows * columns) % 256]).byte()
    prompts = [TextPrompt("the woman with a red hat"), PointPrompt(torch.tensor([30.0, 40.0]))]
    with torch.inference_mode():
        final = uniphd.load_model("synthetic_cpu")(
            image.expand(2, -1, -1, -1),
            torch.zeros(2, 96, 96, dtype=torch.bool),
            ((96, 96), (96, 96)),
            batch_prompts(prompts, HashTokenizer(vocab_size=4096, max_length=64)),
        ).final
    expected = torch.tensor(EXPECTED)
    actual = torch.cat([final.logits[..., 1], final.boxes[:, 0], final.keypoints[:, 0, 0]], dim=1)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_names_of_a_configuration() -> None:
    config = json.loads((PACKAGED / "config.json").read_text())
    renamed = renamed_config(config)
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
