"""Building blocks of the network."""

import pytest
import torch

from uniphd.errors import ConfigError
from uniphd.models.layers import MLP, FeedForward, MlpInit, by_parts, softmax_of_few
from uniphd.models.query_selection import QuerySelection


def test_parts_give_what_the_whole_gives() -> None:
    x = torch.randn(2, 7, 5, dtype=torch.float64)
    seen: list[tuple[int, ...]] = []

    def sums(rows: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(rows.shape))
        return rows.cumsum(-1)[..., :3]

    with torch.inference_mode():
        assert torch.equal(by_parts(sums, x, rows=4), x.cumsum(-1)[..., :3])
    assert seen == [(4, 5), (4, 5), (4, 5), (2, 5)]


def test_a_gradient_takes_the_whole_at_once() -> None:
    seen: list[tuple[int, ...]] = []

    def double(rows: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(rows.shape))
        return 2 * rows

    by_parts(double, torch.ones(2, 7, 5), rows=4)
    assert seen == [(2, 7, 5)]


def test_feed_forward_is_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    block = FeedForward(8, 32, dropout=0.0)
    x = torch.randn(3, 700, 8)  # 2,100 rows: two whole parts and a rest
    hidden = (x @ block.linear1.weight.T + block.linear1.bias).relu()
    update = x + hidden @ block.linear2.weight.T + block.linear2.bias
    expected = torch.nn.functional.layer_norm(update, (8,), block.norm.weight, block.norm.bias)
    with torch.inference_mode():
        torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(("init", "share"), [("default", (1 / 6) ** 1.5), ("he", 1.0)])
def test_hidden_layers_keep_or_lose_the_size_of_what_they_are_given(
    init: MlpInit, share: float
) -> None:
    torch.manual_seed(0)
    mlp = MLP(256, 256, 4, num_layers=4, init=init)
    x = torch.randn(512, 256)
    with torch.no_grad():
        hidden = x
        for layer in mlp.layers[:-1]:
            hidden = layer(hidden).relu()
        size = hidden.square().mean().sqrt() / x.square().mean().sqrt()
    assert size.item() == pytest.approx(share, rel=0.25)


def test_an_unknown_initialisation_is_refused() -> None:
    with pytest.raises(ConfigError, match="mlp_init is 'xavier'; choose from default, he"):
        MLP(4, 4, 4, num_layers=2, init="xavier")  # type: ignore[arg-type]


def test_query_selection_hands_the_initialisation_to_the_layers_that_guess_poses() -> None:
    for init, zero in (("default", False), ("he", True)):
        first = QuerySelection(hidden_dim=16, mlp_init=init).keypoint_mlp.layers[0]  # type: ignore[arg-type]
        assert bool((first.bias == 0).all()) is zero


@pytest.mark.parametrize("values", [12, 16])
def test_the_softmax_of_few_is_pytorchs(values: int) -> None:
    x = torch.randn(2, 5, 3, values, dtype=torch.float64, requires_grad=True)
    expected, actual = x.softmax(-1), softmax_of_few(x)
    torch.testing.assert_close(actual, expected)
    weights = torch.randn_like(x)
    torch.testing.assert_close(
        *(torch.autograd.grad((y * weights).sum(), x)[0] for y in (actual, expected))
    )
