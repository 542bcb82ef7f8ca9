"""Deformable attention against its definition, sample by sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from uniphd.models.deformable_attention import DeformableAttention

SHAPES = ((4, 6), (2, 3))
HEADS, POINTS, CHANNELS, QUERIES = 2, 3, 8, 5
TOKENS = sum(height * width for height, width in SHAPES)


def inputs() -> tuple[Tensor, Tensor, Tensor, tuple[tuple[int, int], ...], Tensor]:
    """Two images of different sizes on one canvas; the second one has padding."""
    generator = torch.Generator().manual_seed(0)
    padding = torch.zeros(2, TOKENS, dtype=torch.bool)
    for start, (height, width) in ((0, SHAPES[0]), (24, SHAPES[1])):
        cells = padding[1, start : start + height * width].view(height, width)
        cells[height // 2 :] = cells[:, width // 3 * 2 :] = True
    return (
        torch.randn(2, QUERIES, CHANNELS, generator=generator),
        torch.rand(2, QUERIES, len(SHAPES), 2, generator=generator),
        torch.randn(2, TOKENS, CHANNELS, generator=generator),
        SHAPES,
        padding,
    )


def module() -> DeformableAttention:
    torch.manual_seed(1)
    attention = DeformableAttention(CHANNELS, HEADS, len(SHAPES), POINTS)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return attention


def at(cells: Tensor, x: float, y: float) -> Tensor:
    """Cells (h, w, D) read bilinearly at pixel (x, y), whose centres are integers; 0 outside."""
    value = torch.zeros(cells.shape[-1])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < cells.shape[0] and 0 <= column < cells.shape[1]:
                value += (1 - abs(y - row)) * (1 - abs(x - column)) * cells[row, column]
    return value


@torch.no_grad()
def test_equals_a_loop_over_samples() -> None:
    attention, (query, reference, memory, shapes, padding) = module(), inputs()
    value = attention.value_proj(memory) * ~padding.unsqueeze(-1)
    offsets = attention.sampling_offsets(query).view(2, QUERIES, HEADS, len(SHAPES), POINTS, 2)
    weights = attention.attention_weights(query).view(2, QUERIES, HEADS, -1).softmax(-1)
    weights = weights.view(2, QUERIES, HEADS, len(SHAPES), POINTS)
    out = torch.zeros(2, QUERIES, HEADS, CHANNELS // HEADS)
    for image, q, head, level, point in torch.cartesian_prod(
        *(torch.arange(n) for n in (2, QUERIES, HEADS, len(SHAPES), POINTS))
    ).tolist():
        height, width = shapes[level]
        start = 0 if level == 0 else 24
        cells = value[image, start : start + height * width].view(height, width, HEADS, -1)
        x, y = reference[image, q, level] * torch.tensor([width, height])
        dx, dy = offsets[image, q, head, level, point]
        sample = at(cells[:, :, head], float(x + dx) - 0.5, float(y + dy) - 0.5)
        out[image, q, head] += weights[image, q, head, level, point] * sample
    expected = attention.output_proj(out.flatten(2))
    actual = attention(query, reference, memory, shapes, padding)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_lies_on_padding_is_not_read() -> None:
    attention, (query, reference, memory, shapes, padding) = module(), inputs()
    noisy = memory + 100 * torch.randn_like(memory) * padding.unsqueeze(-1)
    before = attention(query, reference, memory, shapes, padding)
    assert torch.equal(attention(query, reference, noisy, shapes, padding), before)
    shown = attention(query, reference, noisy, shapes, torch.zeros_like(padding))
    assert (shown - before)[1].abs().max() > 1


def test_it_starts_on_a_ring_with_equal_weights() -> None:
    attention = DeformableAttention(hidden_dim=64, num_heads=8, num_levels=2, num_points=4)
    reference = torch.full((1, 1, 2, 2), 0.5)
    locations, weights = attention.sample(torch.randn(1, 1, 64), reference, SHAPES)
    cells = (locations - 0.5) * torch.tensor([(w, h) for h, w in SHAPES])[:, None]
    ring = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    expected = torch.tensor(ring)[:, None, None] * torch.arange(1, 5)[:, None]
    torch.testing.assert_close(cells[0, 0], expected.expand(-1, 2, -1, -1).float())
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 8))
