"""How the image meets the prompt: the published attention, its limits and the choices beyond."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from uniphd.models.fusion import NoFusion, ProductFusion, PromptFusion
from uniphd.models.prompt_encoder import PromptEncoder, PromptTokens
from uniphd.models.text_encoder import TextEncoder
from uniphd.models.tokenizer import HashTokenizer
from uniphd.prompts import (
    Block,
    PointPrompt,
    PointsBlock,
    PromptBatch,
    TextBlock,
    TextPrompt,
    batch_prompts,
)

CHANNELS = 8
CANVAS = (64, 96)
MAP = (4, 6)


def kinds_only(*kinds: str) -> PromptBatch:
    empty = torch.zeros(0)
    blocks: dict[str, Block] = {kind: PointsBlock(empty, empty) for kind in kinds}
    if "text" in kinds:
        blocks["text"] = TextBlock(empty, empty)
    return PromptBatch(kinds, blocks)


def random_prompt(rows: int, tokens: int = 3) -> PromptTokens:
    padding = torch.zeros(rows, tokens, dtype=torch.bool)
    padding[0, -1] = True
    return PromptTokens(
        tokens=torch.randn(rows, tokens, CHANNELS),
        positions=torch.randn(rows, tokens, CHANNELS),
        padding=padding,
        global_embedding=torch.randn(rows, CHANNELS),
    )


def pick(prompt: PromptTokens, row: int) -> PromptTokens:
    rows = slice(row, row + 1)
    return PromptTokens(*(values[rows] for values in vars(prompt).values()))


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return torch.einsum("...i,oi->...o", x, layer.weight) + layer.bias


def attend(layer: nn.MultiheadAttention, queries: Tensor, prompt: PromptTokens) -> Tensor:
    """Attention of one row written out head by head."""
    weights, biases = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
    keys = prompt.tokens + prompt.positions
    q, k, v = (
        torch.einsum("bsi,oi->bso", x, weight) + bias
        for x, weight, bias in zip((queries, keys, prompt.tokens), weights, biases, strict=True)
    )
    size = CHANNELS // layer.num_heads
    heads = []
    for head in range(layer.num_heads):
        part = slice(head * size, (head + 1) * size)
        scores = torch.einsum("bsc,btc->bst", q[..., part], k[..., part]) / size**0.5
        scores = scores.masked_fill(prompt.padding[:, None], -torch.inf)
        heads.append(torch.einsum("bst,btc->bsc", scores.softmax(-1), v[..., part]))
    return linear(layer.out_proj, torch.cat(heads, -1))


@pytest.mark.parametrize("position_in_queries", [False, True])
@pytest.mark.parametrize("kinds", [("text",), ("point",), ("box", "text", "scribble", "text")])
def test_product_fusion_is_its_formula(kinds: tuple[str, ...], position_in_queries: bool) -> None:
    torch.manual_seed(0)
    fusion = ProductFusion(CHANNELS, 2, position_in_queries)
    for parameter in fusion.parameters():
        nn.init.normal_(parameter, std=0.5)
    visual, positions = torch.randn(2, len(kinds), 5, CHANNELS)
    prompt = random_prompt(len(kinds))
    fused = fusion(visual, positions, prompt, kinds_only(*kinds))
    for row, kind in enumerate(kinds):
        v, pos, one = visual[row : row + 1], positions[row : row + 1], pick(prompt, row)
        is_text = kind == "text"
        attention = fusion.text_attention if is_text else fusion.spatial_attention
        factors = fusion.text_product if is_text else fusion.spatial_product
        tokens = one.tokens[:, ~one.padding[0]]
        hidden = torch.einsum(
            "bsc,btc->bsc",
            linear(factors.visual_factor, v + pos),
            linear(factors.prompt_factor, tokens),
        ) * (12 / tokens.shape[1])
        queries = v + pos if position_in_queries else v
        expected = v + attend(attention, queries, one)
        expected = expected + linear(fusion.output, hidden.clamp(min=0))
        torch.testing.assert_close(fused.tokens[row : row + 1], expected)
        logits = linear(factors.grounding, hidden)[..., 0]
        torch.testing.assert_close(fused.grounding_logits[row : row + 1], logits)


def test_grounding_starts_as_a_scaled_dot_product_with_few_tokens_covered() -> None:
    torch.manual_seed(0)
    fusion = ProductFusion(CHANNELS, 2)
    visual, positions = torch.randn(2, 1, 5, CHANNELS)
    prompt = random_prompt(1)
    product = fusion.text_product
    factor = 12 * linear(product.prompt_factor, prompt.tokens[:, :-1]).mean(1)
    similarity = linear(product.visual_factor, visual + positions) @ factor[0] / CHANNELS**0.5
    logits = fusion(visual, positions, prompt, kinds_only("text")).grounding_logits
    torch.testing.assert_close(logits, similarity - 2)


def test_a_caption_is_grounded_as_a_prompt_of_its_image() -> None:
    torch.manual_seed(0)
    fusion = ProductFusion(CHANNELS, 2)
    visual, positions = torch.randn(2, 2, 5, CHANNELS)
    captions = random_prompt(3)
    images = torch.tensor([1, 0, 1])
    as_prompts = fusion(visual[images], positions[images], captions, kinds_only(*["text"] * 3))
    torch.testing.assert_close(
        fusion.ground(visual, positions, captions, images), as_prompts.grounding_logits
    )


def test_the_published_fusion_is_attention_alone_and_gives_no_logits() -> None:
    torch.manual_seed(0)
    fusion = PromptFusion(CHANNELS, 2)
    visual, positions = torch.randn(2, 2, 5, CHANNELS)
    prompt = random_prompt(2)
    fused = fusion(visual, positions, prompt, kinds_only("point", "point"))
    assert fused.grounding_logits is None
    expected = visual + attend(fusion.spatial_attention, visual, prompt)
    torch.testing.assert_close(fused.tokens, expected)


def test_without_fusion_the_image_is_as_it_was() -> None:
    visual, positions = torch.randn(2, 2, 5, CHANNELS)
    fused = NoFusion()(visual, positions, random_prompt(2), kinds_only("text", "point"))
    assert fused.grounding_logits is None
    assert torch.equal(fused.tokens, visual)


@pytest.mark.parametrize("kinds", [("text", "text"), ("point", "box")])
def test_weights_of_the_other_kind_get_no_gradient(kinds: tuple[str, ...]) -> None:
    """So that an optimizer leaves them alone, decay and momentum included."""
    fusion = ProductFusion(CHANNELS, 2)
    visual, positions = torch.randn(2, 2, 5, CHANNELS)
    fused = fusion(visual, positions, random_prompt(2), kinds_only(*kinds))
    fused.tokens.sum().backward()
    other = "spatial" if kinds[0] == "text" else "text"
    for name, parameter in fusion.named_parameters():
        absent = name.startswith(other) or ".grounding." in name
        assert (parameter.grad is None) == absent, name


def test_choices_add_parameters_only_where_chosen() -> None:
    published = {name for name, _ in PromptFusion(CHANNELS, 2).named_parameters()}
    assert {name for name, _ in PromptFusion(CHANNELS, 2, True).named_parameters()} == published
    assert published == {
        f"{kind}_attention.{name}"
        for kind in ("text", "spatial")
        for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    }
    encoders = [prompt_encoder(choice).state_dict().keys() for choice in (False, True)]
    assert encoders[1] - encoders[0] == {"position_projection.weight", "position_projection.bias"}
    assert not encoders[0] - encoders[1]


def prompt_encoder(position_in_values: bool) -> PromptEncoder:
    torch.manual_seed(0)
    sizes = {"hidden_size": CHANNELS, "num_attention_heads": 1, "intermediate_size": CHANNELS}
    text = TextEncoder(
        config={
            "model_type": "roberta",
            "vocab_size": 16,
            "num_hidden_layers": 1,
            "max_position_embeddings": 16,
            **sizes,
        }
    )
    return PromptEncoder(
        text, feature_dim=2, hidden_dim=CHANNELS, position_in_values=position_in_values
    ).eval()


def encode_points(encoder: PromptEncoder, positions: Tensor) -> tuple[PromptTokens, PromptBatch]:
    """Two points on an image that looks the same everywhere."""
    points = [PointPrompt(torch.tensor(point)) for point in ([20.0, 10.0], [70.0, 50.0])]
    prompts = batch_prompts(points, HashTokenizer(16))
    features = torch.ones(2, 2, *MAP)
    return encoder(prompts, features, positions.expand(2, -1, -1, -1), CANVAS), prompts


@pytest.mark.parametrize("position_in_values", [False, True])
def test_where_a_single_point_is_reaches_the_image_only_through_values(
    position_in_values: bool,
) -> None:
    encoder = prompt_encoder(position_in_values)
    positions = torch.randn(1, CHANNELS, *MAP)
    prompt, prompts = encode_points(encoder, positions)
    fusion = PromptFusion(CHANNELS, 2, position_in_queries=True)
    visual, queries = torch.randn(2, 2, 5, CHANNELS)
    update = fusion(visual, queries, prompt, prompts).tokens - visual
    # One key: its weight is 1 whatever the query, so every token reads the same vector.
    torch.testing.assert_close(update, update[:, :1].expand_as(update))
    difference = (update[0] - update[1]).abs().max()
    summaries = (prompt.global_embedding[0] - prompt.global_embedding[1]).abs().max()
    if position_in_values:
        assert difference > 1e-2
        assert summaries > 1e-2
    else:
        assert difference < 1e-5
        assert summaries < 1e-5


def test_position_in_values_is_a_projection_of_the_sampled_encoding() -> None:
    published, chosen = prompt_encoder(False), prompt_encoder(True)
    chosen.load_state_dict(published.state_dict(), strict=False)
    positions = torch.randn(1, CHANNELS, *MAP)
    before, _ = encode_points(published, positions)
    after, _ = encode_points(chosen, positions)
    assert chosen.position_projection is not None
    extra = linear(chosen.position_projection, before.positions)
    torch.testing.assert_close(after.tokens, before.tokens + extra)
    torch.testing.assert_close(after.positions, before.positions)


def test_texts_are_encoded_as_before_with_position_in_values() -> None:
    published, chosen = prompt_encoder(False), prompt_encoder(True)
    chosen.load_state_dict(published.state_dict(), strict=False)
    prompts = batch_prompts([TextPrompt("left"), TextPrompt("the right one")], HashTokenizer(16))
    features, positions = torch.ones(2, 2, *MAP), torch.randn(2, CHANNELS, *MAP)
    before = published(prompts, features, positions, CANVAS)
    after = chosen(prompts, features, positions, CANVAS)
    torch.testing.assert_close(after.tokens, before.tokens)
    torch.testing.assert_close(after.global_embedding, before.global_embedding)


def test_mixed_kinds_under_autocast() -> None:
    torch.manual_seed(0)
    fusion = ProductFusion(CHANNELS, 2)
    visual, positions = torch.randn(2, 3, 5, CHANNELS)
    prompt, prompts = random_prompt(3), kinds_only("point", "text", "box")
    expected = fusion(visual, positions, prompt, prompts)
    with torch.autocast("cpu", torch.bfloat16):
        fused = fusion(visual, positions, prompt, prompts)
    torch.testing.assert_close(fused.tokens, expected.tokens, atol=0.05, rtol=0.05)
