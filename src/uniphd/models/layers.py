"""Small building blocks shared by several parts of the network."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.errors import ConfigError
from uniphd.ops.sampling import is_exporting

MlpInit: TypeAlias = Literal["default", "he"]

PART_ROWS = 1024
"""Tokens computed at a time on CPUs: 8 MB of hidden values at the paper's width."""

_VECTOR = 8  # float32 values that AVX2 computes at once


def require_positive(**sizes: int) -> None:
    """Refuse a size, given by its name, that would leave a part of the network empty.

    Raises:
        ConfigError: it is below 1.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} is {size}; give a number of at least 1.")


def require_heads(hidden_dim: int, num_heads: int) -> None:
    """Refuse channels that cannot be shared among attention heads.

    Raises:
        ConfigError: `hidden_dim` is no multiple of `num_heads`.
    """
    require_positive(hidden_dim=hidden_dim, num_heads=num_heads)
    if hidden_dim % num_heads:
        raise ConfigError(
            f"hidden_dim={hidden_dim} is not a multiple of num_heads={num_heads}; give one that is."
        )


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        in_dim: width of the input.
        hidden_dim: width between the layers.
        out_dim: width of the output.
        num_layers: linear layers, the last included.
        init: "default" is PyTorch's, as in the official release: every hidden layer leaves 0.4 of
            the size of what it is given. "he" keeps the size (He et al., arXiv 1502.01852, eq. 10).

    Raises:
        ConfigError: `init` is neither.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        out_dim: int,
        num_layers: int,
        init: MlpInit = "default",
    ) -> None:
        super().__init__()
        if init not in get_args(MlpInit):
            raise ConfigError(f"mlp_init is {init!r}; choose from {', '.join(get_args(MlpInit))}.")
        widths = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
        linear = [nn.Linear(before, after) for before, after in pairwise(widths)]
        if init == "he":
            for layer in linear[:-1]:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(linear)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_dim) to (..., out_dim)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        out: Tensor = last(x)
        return out

    def zero_last_layer(self) -> None:
        """Make the initial output zero, so that an added refinement starts as the identity."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


class FeedForward(nn.Module):
    """Post-norm transformer feed-forward block: `norm(x + linear2(relu(linear1(x))))`."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        require_positive(feedforward_dim=hidden_dim)
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Update x (..., dim)."""
        return by_parts(self._block, x, PART_ROWS)

    def _block(self, x: Tensor) -> Tensor:
        # not in place: a linear layer's output is a view, whose gradient would be copied for that
        update = self.linear2(self.dropout(F.relu(self.linear1(x))))
        out: Tensor = self.norm(x + self.dropout(update))
        return out


def mean_over_tokens(tokens: Tensor, padding: Tensor) -> Tensor:
    """Mean (B, C) of tokens (B, T, C) that are not padding, which is True in (B, T)."""
    weight = (~padding).unsqueeze(-1).to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1)


def select_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """Rows of x (N, ...); x itself for None. Unlike x[rows], its gradient needs no sorting."""
    return x if rows is None else x.index_select(0, rows)


def softmax_of_few(x: Tensor) -> Tensor:
    """`x.softmax(-1)` of many rows of a dozen values (..., n).

    PyTorch's CPU kernel takes one row at a time, and is slow where that does not fill its vectors:
    with twelve values column by column takes a third of the time, forward and backward, the
    transposition included. Sixteen values fill them.
    """
    if x.device.type != "cpu" or x.shape[-1] % _VECTOR == 0 or is_exporting():
        return x.softmax(-1)
    columns = x.flatten(0, -2).T.contiguous()
    return columns.softmax(0).T.reshape(x.shape)


def parts_are_faster(x: Tensor) -> bool:
    """Whether work on many tokens is faster some of them at a time.

    It is on CPUs without gradients: temporaries of a few MB stay in the cache, while those of 50 MB
    come fresh from the system every time, and their page faults cost as much as the arithmetic. (A
    gradient needs the temporaries anyway; a graph that is compiled or exported takes its own way.)
    """
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling()) and x.device.type == "cpu"


def by_parts(function: Callable[[Tensor], Tensor], x: Tensor, rows: int) -> Tensor:
    """A function of the single rows of x (..., C), `rows` at a time where that is faster."""
    if not parts_are_faster(x):
        return function(x)
    parts = [function(part) for part in x.flatten(0, -2).split(rows)]
    out: Tensor = torch.cat(parts).unflatten(0, x.shape[:-1])
    return out


def logit(x: Tensor, eps: float = 1e-3) -> Tensor:
    """Inverse of the sigmoid, with x clamped to [0, 1] and both parts of the ratio to at least eps.

    `eps` = 1e-3 is the official release's value; it bounds the result to about +-6.9.
    """
    # 1.0 and not 1: torch.onnx cannot convert bounds of two types
    return torch.log(x.clamp(eps, 1.0) / (1 - x).clamp(eps, 1.0))
