"""Decoder layers and their alternatives against the same steps written out."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from uniphd.errors import ConfigError
from uniphd.models.decoder import DecoderLayer, PoseDecoder
from uniphd.models.deformable_attention import DeformableAttention
from uniphd.models.group_pose import GroupPoseDecoder, GroupPoseLayer
from uniphd.models.heads import PredictionHeads
from uniphd.models.query_selection import QuerySelection

BATCH, QUERIES, SLOTS, CHANNELS, HEADS, POINTS = 2, 3, 18, 16, 2, 2
SHAPES = ((5, 6), (3, 3))
SIZES = {
    "hidden_dim": CHANNELS,
    "num_heads": HEADS,
    "num_levels": len(SHAPES),
    "num_points": POINTS,
    "feedforward_dim": 24,
    "dropout": 0.0,
}
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, tuple[tuple[int, int], ...], Tensor]


@pytest.fixture
def inputs() -> Inputs:
    generator = torch.Generator().manual_seed(0)
    tokens = sum(height * width for height, width in SHAPES)
    return (
        torch.randn(BATCH, QUERIES, SLOTS, CHANNELS, generator=generator),
        torch.randn(BATCH, QUERIES, SLOTS - 1, CHANNELS, generator=generator),
        torch.rand(BATCH, QUERIES, SLOTS, len(SHAPES), 2, generator=generator),
        torch.randn(BATCH, tokens, CHANNELS, generator=generator),
        SHAPES,
        torch.zeros(BATCH, tokens, dtype=torch.bool),
    )


def randomise(module: nn.Module) -> None:
    """No weight at a special value."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)


def make_layer(kind: type[DecoderLayer], within: str) -> DecoderLayer:
    torch.manual_seed(0)
    layer = kind(**SIZES, within_attention=within)
    randomise(layer)
    return layer.eval()


def attend(attention: nn.MultiheadAttention, x: Tensor, bias: Tensor | None) -> Tensor:
    """Self-attention of (N, C), head by head and token by token; `bias` is (heads, N, N)."""
    width = CHANNELS // HEADS
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    query, key, value = (x @ w.T + b for w, b in zip(weights, biases, strict=True))
    out = torch.zeros_like(x)
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(x)):
            scores = torch.stack([query[i, part] @ key[j, part] for j in range(len(x))])
            scores = scores / math.sqrt(width)
            if bias is not None:
                scores = scores + bias[head, i]
            out[i, part] = (scores.exp() / scores.exp().sum()) @ value[:, part]
    return out @ attention.out_proj.weight.T + attention.out_proj.bias


def within(layer: DecoderLayer, x: Tensor, positions: Tensor) -> Tensor:
    x = x.clone()
    x[:, :, 1:] += positions
    out = x.clone()
    for image in range(BATCH):
        for group in range(QUERIES):
            if layer.within_attention is not None:
                out[image, group] += attend(
                    layer.within_attention, x[image, group], layer.adjacency
                )
    return layer.within_norm(out)


def across(layer: DecoderLayer, x: Tensor) -> Tensor:
    out = x.clone()
    for image in range(BATCH):
        for slot in range(SLOTS):
            out[image, :, slot] += attend(layer.across_attention, x[image, :, slot], None)
    return layer.across_norm(out)


def look_up(
    layer: DecoderLayer,
    x: Tensor,
    positions: Tensor,
    reference: Tensor,
    memory: Tensor,
    shapes: tuple[tuple[int, int], ...],
    padding: Tensor,
) -> Tensor:
    """The deformable attention itself is tested elsewhere; here one query is asked at a time."""
    x = x.clone()
    x[:, :, 1:] += positions
    out = x.clone()
    for group in range(QUERIES):
        for slot in range(SLOTS):
            one = (slice(None), slice(group, group + 1), slot)
            out[one] += layer.cross_attention(x[one], reference[one], memory, shapes, padding)
    x = layer.cross_norm(out)
    block = layer.cross_feedforward
    return block.norm(x + block.linear2(block.linear1(x).relu()))


@pytest.mark.parametrize("kind", ["graph", "plain", "none"])
def test_a_layer_is_its_steps(kind: str, inputs: Inputs) -> None:
    layer = make_layer(DecoderLayer, kind)
    groups, positions, *rendered = inputs
    with torch.no_grad():
        x = look_up(layer, across(layer, groups), positions, *rendered)
        x = within(layer, x, positions)
        block = layer.within_feedforward
        expected = block.norm(x + block.linear2(block.linear1(x).relu()))
        torch.testing.assert_close(layer(*inputs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "graph"])
def test_group_pose_takes_the_steps_in_its_own_order(kind: str, inputs: Inputs) -> None:
    layer = make_layer(GroupPoseLayer, kind)
    groups, positions, *rendered = inputs
    with torch.no_grad():
        x = across(layer, within(layer, groups, positions))
        expected = look_up(layer, x, positions, *rendered)
        torch.testing.assert_close(layer(*inputs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["graph", "plain", "none"])
def test_only_attention_within_a_group_tells_its_keypoints_of_the_instance(
    kind: str, inputs: Inputs
) -> None:
    layer = make_layer(DecoderLayer, kind)
    changed = inputs[0].clone()
    changed[:, :, 0] += 1.0
    with torch.no_grad():
        before, after = layer(*inputs), layer(changed, *inputs[1:])
    assert not torch.allclose(before[:, :, 0], after[:, :, 0])
    assert torch.equal(before[:, :, 1:], after[:, :, 1:]) == (kind == "none")


def test_a_local_start_looks_within_one_cell_and_at_the_finest_level(inputs: Inputs) -> None:
    _, _, reference, memory, shapes, padding = inputs
    points = reference.flatten(1, 2)
    query = torch.randn(BATCH, points.shape[1], CHANNELS)
    sizes = (CHANNELS, HEADS, len(SHAPES), POINTS)
    farthest, finest, strength = {}, {}, {}
    for start in ("ring", "local"):
        torch.manual_seed(0)
        attention = DeformableAttention(*sizes, start=start)
        locations, weights = attention.sample(query, points, shapes)
        extent = torch.tensor([(width, height) for height, width in shapes])[:, None]
        cells = (locations - points[:, :, None, :, None]) * extent
        farthest[start] = cells.abs().max().item()
        finest[start] = weights[:, :, :, 0].sum(-1)
        strength[start] = attention(query, points, torch.ones_like(memory), shapes, padding).std()
    assert farthest == pytest.approx({"ring": POINTS, "local": 1.0}, abs=1e-5)
    assert (finest["ring"] == 0.5).all()
    assert (finest["local"] > 0.9).all()
    assert strength["local"] > 2 * strength["ring"]


def test_keypoints_do_not_hear_each_other_at_a_local_start(inputs: Inputs) -> None:
    heard: dict[str, list[float]] = {}
    for start in ("ring", "local"):
        torch.manual_seed(0)
        layer = DecoderLayer(**SIZES, attention_start=start).eval()
        within = layer.within_attention
        assert within is not None
        slots = inputs[0].flatten(0, 1)
        bias = layer.adjacency.repeat(len(slots), 1, 1)
        weights = within(slots, slots, slots, attn_mask=bias, average_attn_weights=False)[1]
        own = weights.diagonal(dim1=2, dim2=3)
        heard[start] = [1 - own[..., 1:].mean().item(), 1 - own[..., 0].mean().item()]
        silent = torch.count_nonzero(within.out_proj.weight) == 0
        assert silent == (start == "local")
    assert heard["ring"][0] > 0.8
    assert heard["local"][0] < 0.05
    assert heard["local"][1] == heard["ring"][1] > 0.8  # the instance hears its keypoints


def test_what_is_left_out_has_no_parameters() -> None:
    names = {
        kind: {name.partition(".")[0] for name in make_layer(DecoderLayer, kind).state_dict()}
        for kind in ("graph", "plain", "none")
    }
    assert names["graph"] - names["plain"] == {"adjacency"}
    assert names["plain"] - names["none"] == {"within_attention"}
    group_pose = {
        name.partition(".")[0] for name in make_layer(GroupPoseLayer, "plain").state_dict()
    }
    assert names["plain"] - group_pose == {"within_feedforward"}


@pytest.mark.parametrize("decoder", [PoseDecoder, GroupPoseDecoder])
def test_decoders_are_interchangeable(decoder: Callable[..., PoseDecoder], inputs: Inputs) -> None:
    torch.manual_seed(0)
    network = decoder(**SIZES, num_layers=2, within_attention="plain")
    groups, _, reference, memory, shapes, padding = inputs
    ratios = torch.ones(BATCH, len(SHAPES), 2)
    heads = PredictionHeads(CHANNELS, num_layers=2)
    layers = network(groups, reference[:, :, :, 0], memory, shapes, padding, ratios, heads)
    assert [layer.keypoints.shape for layer in layers] == [(BATCH, QUERIES, SLOTS - 1, 2)] * 2
    sum(layer.logits.sum() + layer.visibility_logits.sum() for layer in layers).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_an_unknown_attention_is_named() -> None:
    with pytest.raises(ConfigError, match="'self'; choose from graph, plain, none"):
        PoseDecoder(**SIZES, num_layers=1, within_attention="self")
    with pytest.raises(ConfigError, match="'near'; choose from ring, local"):
        PoseDecoder(**SIZES, num_layers=1, attention_start="near")


def test_keypoint_queries_without_tokens_are_the_learned_ones_for_all_groups(
    inputs: Inputs,
) -> None:
    memory, shapes, padding = inputs[3:]
    ratios, summary = torch.ones(BATCH, len(SHAPES), 2), torch.randn(BATCH, CHANNELS)
    stride4 = torch.empty(BATCH, 1, 0, 0)  # for keypoint maps, which there are none of
    starts = {}
    for tokens in (True, False):
        torch.manual_seed(0)
        selection = QuerySelection(CHANNELS, QUERIES, tokens_as_queries=tokens)
        starts[tokens] = selection(memory, padding, shapes, ratios, summary, stride4)
    learned = selection.keypoint_embedding.weight.expand(BATCH, QUERIES, -1, -1)
    assert torch.equal(starts[False].groups[:, :, 1:], learned)
    assert not torch.allclose(starts[True].groups[:, :, 1:], learned)
    assert torch.equal(starts[True].reference, starts[False].reference)
    assert torch.equal(starts[True].groups[:, :, 0], starts[False].groups[:, :, 0])
