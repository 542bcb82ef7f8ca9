"""Keypoint maps: what is read from a map, against loops and against maps made by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from uniphd.models.heatmaps import KeypointHeatmaps
from uniphd.models.outputs import HeatmapPrediction, TokenProposals

SHAPE = (8, 12)
K = 17


def maps(logits: Tensor) -> HeatmapPrediction:
    """Maps (B, K, 8, 12) of images that fill the canvas."""
    rows, columns = SHAPE
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centres = torch.stack([(x + 0.5) / columns, (y + 0.5) / rows], dim=-1).flatten(0, 1)
    batch = len(logits)
    extent = torch.tensor([[columns, rows]]).float().expand(batch, -1)
    return HeatmapPrediction(logits.flatten(2), centres.expand(batch, -1, -1), extent, SHAPE)


@pytest.fixture
def network() -> KeypointHeatmaps:
    torch.manual_seed(0)
    return KeypointHeatmaps(hidden_dim=16, stride4_dim=6, heatmap_dim=8, num_keypoints=K)


def proposals(invalid: Tensor | None = None) -> TokenProposals:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 6), (2, 3))
    features = torch.randn(2, 30, 16, generator=generator)
    invalid = torch.zeros(2, 30, dtype=torch.bool) if invalid is None else invalid
    return TokenProposals(features, torch.zeros(2, 30, 2), invalid, shapes)


def by_loops(logits: Tensor, guess: Tensor, window: float) -> Tensor:
    """The mean place of one map (8, 12) under a Gaussian window, in float64."""
    total, weights = torch.zeros(2, dtype=torch.float64), 0.0
    for row in range(SHAPE[0]):
        for column in range(SHAPE[1]):
            place = torch.tensor([(column + 0.5) / SHAPE[1], (row + 0.5) / SHAPE[0]])
            distance = float((place - guess).square().sum())
            weight = math.exp(float(logits[row, column]) - distance / (2 * window**2))
            total += weight * place.double()
            weights += weight
    return total / weights


def test_equals_loops(network: KeypointHeatmaps) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, K, *SHAPE, generator=generator)
    guess = torch.rand(2, 3, K, 2, generator=generator)
    with torch.no_grad():
        network.log_window[4] = math.log(0.3)
        located = network.locate(maps(logits), guess)
    for image, query, keypoint in ((0, 0, 0), (1, 2, 4), (1, 1, 16)):
        window = 0.3 if keypoint == 4 else 0.1
        first = by_loops(logits[image, keypoint], guess[image, query, keypoint], 0.2)
        expected = by_loops(logits[image, keypoint], first, window)
        actual = located[image, query, keypoint].double()
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_half_precision_around_it_costs_no_digits(network: KeypointHeatmaps) -> None:
    logits, guess = torch.randn(1, K, *SHAPE), torch.rand(1, 3, K, 2)
    expected = network.locate(maps(logits), guess)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network.locate(maps(logits), guess), expected)


def test_an_even_map_leaves_a_guess_nearly_where_it_is(network: KeypointHeatmaps) -> None:
    guess = torch.tensor([0.45, 0.55]).expand(1, 1, K, 2)
    located = network.locate(maps(torch.zeros(1, K, *SHAPE)), guess)
    assert (located - guess).abs().max() < 0.03


def test_of_two_places_the_nearer_one_is_meant_and_not_the_middle(
    network: KeypointHeatmaps,
) -> None:
    logits = torch.full((1, K, *SHAPE), -20.0)
    logits[..., 4, 1] = logits[..., 4, 10] = 0.0
    guess = torch.tensor([[0.35, 0.5], [0.7, 0.5]]).view(1, 2, 1, 2).expand(-1, -1, K, -1)
    located = network.locate(maps(logits), guess)
    expected = torch.tensor([[1.5 / 12, 4.5 / 8], [10.5 / 12, 4.5 / 8]])
    torch.testing.assert_close(located[0, :, 0], expected, atol=1e-3, rtol=0)


def test_a_cell_hears_its_token_and_its_own_place(network: KeypointHeatmaps) -> None:
    stride4 = torch.zeros(2, 6, 8, 12, requires_grad=True)
    tokens = proposals()
    tokens.features.requires_grad_()
    logits = network(tokens, stride4, torch.ones(2, 2, 2)).logits
    assert logits.shape == (2, K, 96)
    row, column = 5, 3
    logits[1, :, row * 12 + column].sum().backward()
    assert stride4.grad is not None
    assert tokens.features.grad is not None
    assert stride4.grad.abs().sum(1).nonzero().tolist() == [[1, row, column]]
    token = row // 2 * 6 + column // 2
    assert tokens.features.grad.abs().sum(-1).nonzero().tolist() == [[1, token]]


def test_no_keypoint_lies_on_padding(network: KeypointHeatmaps) -> None:
    ratios = torch.tensor([[0.5, 1.0], [1.0, 0.75]]).unsqueeze(1).expand(-1, 2, -1)
    prediction = network(proposals(), torch.randn(2, 6, 8, 12), ratios)
    inside = prediction.logits.isfinite().all(1).unflatten(1, SHAPE)
    assert torch.equal(inside[0], (torch.arange(12) < 6).expand(8, -1))
    assert torch.equal(inside[1], (torch.arange(8) < 6).unsqueeze(1).expand(-1, 12))
    assert prediction.extent.tolist() == [[6, 8], [12, 6]]
    located = network.locate(prediction, torch.rand(2, 3, K, 2))
    assert located.min() > 0
    assert located.max() < 1
