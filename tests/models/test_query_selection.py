"""Query selection against its definition."""

from __future__ import annotations

import math

import pytest
import torch

from uniphd.models.query_selection import QuerySelection, token_proposals

SHAPES = ((6, 8), (3, 4))
TOKENS = 60


@pytest.fixture
def selection() -> QuerySelection:
    torch.manual_seed(0)
    module = QuerySelection(hidden_dim=8, num_queries=4)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def test_proposals_are_cells_away_from_padding_and_border() -> None:
    """The image is 5 x 6 of 6 x 8 cells; the coarser level has cells of a tenth of its size."""
    padding = torch.zeros(1, TOKENS, dtype=torch.bool)
    padding[0, :48].view(6, 8)[5:] = padding[0, :48].view(6, 8)[:, 6:] = True
    ratios = torch.tensor([[[0.75, 5 / 6], [0.75, 5 / 6]]])
    proposals, invalid = token_proposals(SHAPES, padding, ratios)
    assert torch.equal(invalid[0, :48], padding[0, :48])
    share = torch.tensor([2.5 / 6, 1.5 / 5, 0.05, 0.05])  # row 1, column 2
    torch.testing.assert_close(proposals[0, 10], (share / (1 - share)).log())
    assert torch.isinf(proposals[invalid]).all()
    share = torch.tensor([1.5 / 3, 0.5 / 2.5, 0.1, 0.1])  # row 0, column 1
    torch.testing.assert_close(proposals[0, 49], (share / (1 - share)).log())
    assert invalid[0, 51]  # its centre is at 3.5 of 3 columns


@torch.no_grad()
def test_the_best_tokens_start_the_query_groups(selection: QuerySelection) -> None:
    memory, embedding = torch.randn(2, TOKENS, 8), torch.randn(2, 8)
    padding = torch.zeros(2, TOKENS, dtype=torch.bool)
    padding[1, 30:48] = True
    ratios = torch.ones(2, 2, 2)
    chosen = selection(memory, padding, SHAPES, ratios, embedding, torch.zeros(2, 96, 12, 16))
    proposals, invalid = token_proposals(SHAPES, padding, ratios)
    for image in range(2):
        features = selection.norm(
            selection.projection(memory[image] * ~invalid[image].unsqueeze(1))
        )
        scores = selection.classifier(features).amax(1)
        best = sorted(range(TOKENS), key=lambda token: -float(scores[token]))[:4]
        assert chosen.tokens[image].tolist() == best
        for query, token in enumerate(best):
            offsets = selection.keypoint_mlp(features[token]).view(17, 2)
            keypoints = 1 / (1 + torch.exp(-(proposals[image, token, :2] + offsets)))
            centre = keypoints.mean(0, keepdim=True)
            slots = features[token] + selection.keypoint_embedding.weight
            reference = torch.cat([centre, keypoints])
            groups = torch.cat([embedding[image : image + 1], slots])
            torch.testing.assert_close(chosen.reference[image, query], reference)
            torch.testing.assert_close(chosen.groups[image, query], groups)


@torch.no_grad()
def test_what_lies_on_padding_is_not_read(selection: QuerySelection) -> None:
    memory, embedding = torch.randn(2, TOKENS, 8), torch.randn(2, 8)
    padding = torch.zeros(2, TOKENS, dtype=torch.bool)
    padding[1, 30:48] = True
    noisy = memory + 100 * torch.randn_like(memory) * padding.unsqueeze(-1)
    rest = (padding, SHAPES, torch.ones(2, 2, 2), embedding, torch.zeros(2, 96, 12, 16))
    assert torch.equal(selection(noisy, *rest).groups, selection(memory, *rest).groups)


def test_a_new_classifier_gives_a_probability_of_a_hundredth() -> None:
    bias = QuerySelection(hidden_dim=8).classifier.bias
    torch.testing.assert_close(bias, torch.full((2,), -math.log(99)))
