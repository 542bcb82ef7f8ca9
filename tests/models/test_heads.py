"""What the grounding at an answer's keypoints does to its class logits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.composition import TINY, compose_train
from uniphd.cli.configuration import build_network
from uniphd.errors import ConfigError
from uniphd.keypoints import NUM_KEYPOINTS
from uniphd.models.heads import PredictionHeads, logits_at_keypoints
from uniphd.models.outputs import LayerPrediction
from uniphd.models.tokenizer import HashTokenizer
from uniphd.prompts import TextPrompt, batch_prompts
from uniphd.structures import Captions


def ramp(height: int, width: int) -> Tensor:
    """(2, h, w): x of every cell's centre as a fraction of the width, and ten times that."""
    x = (torch.arange(width) + 0.5) / width
    return torch.stack([x.expand(height, width), 10 * x.expand(height, width)])


def answers(keypoints: Tensor) -> LayerPrediction:
    batch, queries = keypoints.shape[:2]
    return LayerPrediction(
        logits=torch.zeros(batch, queries, 2, requires_grad=True),
        boxes=torch.zeros(batch, queries, 4),
        keypoints=keypoints,
        visibility_logits=torch.zeros(batch, queries, NUM_KEYPOINTS),
        embedding=torch.zeros(batch, queries, 8),
        centre=torch.zeros(batch, queries, 2),
    )


def test_logits_are_looked_up_where_the_keypoints_are() -> None:
    torch.manual_seed(0)
    keypoints = 0.2 + 0.6 * torch.rand(2, 3, NUM_KEYPOINTS, 2)
    # The second picture fills half of the canvas' width: its keypoints are in that half.
    valid = torch.tensor([[[1.0, 1.0]] * 2, [[0.5, 1.0]] * 2])
    seen = logits_at_keypoints([ramp(8, 16), -ramp(4, 8)], keypoints, valid)
    x = keypoints[..., 0] * torch.tensor([1.0, 0.5])[:, None, None]
    x[1] *= 10
    torch.testing.assert_close(seen, torch.cat([x, -x], dim=2))


def test_the_mean_over_the_keypoints_counts_for_the_person_alone() -> None:
    heads = PredictionHeads(hidden_dim=8, num_layers=1, grounding_levels=2)
    keypoints = torch.rand(1, 4, NUM_KEYPOINTS, 2, requires_grad=True)
    maps = [torch.full((1, 4, 4), 3.0, requires_grad=True), torch.full((1, 2, 2), 1.0)]
    before = answers(keypoints)
    (after,) = heads.weigh_evidence(
        [before], [*maps, torch.full((1, 1, 1), 99.0)], torch.ones(1, 3, 2)
    )
    torch.testing.assert_close(after.logits, torch.tensor([0.0, 2.0]).expand(1, 4, 2))
    assert replace(after, logits=before.logits) == before
    after.logits.sum().backward()
    assert maps[0].grad is None
    assert keypoints.grad is None
    evidence = heads[0].evidence
    assert evidence is not None
    torch.testing.assert_close(evidence.weight.grad[:, 0], torch.tensor([12.0, 12.0]))


def test_the_papers_heads_have_no_such_weights() -> None:
    assert not [name for name, _ in PredictionHeads().named_parameters() if "evidence" in name]


def test_every_answer_hears_the_grounding_of_its_own_prompt() -> None:
    torch.manual_seed(0)
    overrides = (*TINY, "fusion=product")
    plain, _ = build_network(compose_train(None, *overrides))
    model, _ = build_network(compose_train(None, *overrides, "model.heads.grounding_levels=2"))
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert missing == ["heads.0.evidence.weight", "heads.1.evidence.weight"]
    assert not unexpected
    tokenize = HashTokenizer()
    prompts = batch_prompts([TextPrompt("the left one"), TextPrompt("the man in red")], tokenize)
    captions = Captions(batch_prompts([TextPrompt("a hat")], tokenize), (0,))
    padding = torch.zeros(2, 64, 96, dtype=torch.bool)
    padding[1, :, 48:] = True
    images = torch.randn(2, 3, 64, 96).masked_fill(padding.unsqueeze(1), 0)
    inputs = (images, padding, ((64, 96), (64, 48)), prompts)
    with torch.no_grad():
        before = plain.eval()(*inputs).final
        after = model.eval()(*inputs, captions=captions)
    assert after.grounding is not None
    for row, share in enumerate((1.0, 0.5)):
        logits = after.grounding.logits[row].split([96, 24, 6, 2])
        maps = [logits[0].view(1, 8, 12), logits[1].view(1, 4, 6)]
        seen = logits_at_keypoints(
            maps, before.keypoints[row : row + 1], torch.tensor([[[share, 1.0]] * 2])
        )
        change = after.final.logits[row] - before.logits[row]
        torch.testing.assert_close(change[:, 1], seen[0].mean(-1), atol=1e-4, rtol=0)
        torch.testing.assert_close(change[:, 0], torch.zeros(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["fusion=attention", "model.heads.grounding_levels=1"], "use fusion=product"),
        (["fusion=product", "model.heads.grounding_levels=5"], "give a number from 0 to the 4"),
        (["fusion=product", "model.heads.grounding_levels=-1"], "give a number from 0 to the 4"),
    ],
)
def test_levels_that_are_not_there(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_network(compose_train(None, *TINY, *overrides))
