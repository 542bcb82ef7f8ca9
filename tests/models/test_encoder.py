"""The deformable encoder against its steps written out."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from uniphd.models.encoder import DeformableEncoder, reference_points

SHAPES = ((4, 6), (2, 3))
TOKENS = 30


def test_references_are_pixel_centres_in_shares_of_the_image() -> None:
    """Token 8 is row 1, column 2 of the first level, of which 3 of 4 rows are image."""
    ratios = torch.tensor([[[1.0, 0.75], [1.0, 0.5]]])
    reference = reference_points(SHAPES, ratios)
    x, y = 2.5 / 6, 1.5 / 3
    assert reference.shape == (1, TOKENS, 2, 2)
    torch.testing.assert_close(reference[0, 8, 0], torch.tensor([x, y * 0.75]))
    torch.testing.assert_close(reference[0, 8, 1], torch.tensor([x, y * 0.5]))


@torch.no_grad()
def test_a_layer_is_attention_and_feed_forward_with_norms_after() -> None:
    torch.manual_seed(0)
    encoder = DeformableEncoder(8, 2, 2, len(SHAPES), 2, 12).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens, positions = torch.randn(2, 1, TOKENS, 8)
    padding, ratios = torch.zeros(1, TOKENS, dtype=torch.bool), torch.ones(1, 2, 2)
    expected = tokens
    level = torch.cat(
        [encoder.level_embedding[:1].expand(24, -1), encoder.level_embedding[1:].expand(6, -1)]
    )
    for layer in encoder.layers:
        query = expected + positions + level
        reference = reference_points(SHAPES, ratios)
        update = layer.attention(query, reference, expected, SHAPES, padding)
        expected = F.layer_norm(expected + update, (8,), layer.norm.weight, layer.norm.bias)
        block = layer.feedforward
        update = F.linear(expected, block.linear1.weight, block.linear1.bias).clamp(min=0)
        update = F.linear(update, block.linear2.weight, block.linear2.bias)
        expected = F.layer_norm(expected + update, (8,), block.norm.weight, block.norm.bias)
    actual = encoder(tokens, positions, SHAPES, padding, ratios)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
