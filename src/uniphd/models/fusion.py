"""Multimodal fusion: every image token looks at the prompt once, before the encoder.

Shapes: B prompts, each with its image, S image tokens of all levels, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uniphd.models.layers import mean_over_tokens, require_heads, select_rows
from uniphd.models.prompt_encoder import PromptTokens
from uniphd.prompts.sources import PromptSources

# On synthetic people texts from scratch are learned in a third of the steps that a gain of 1
# takes; twelve times the mean is the sum over the tokens of a usual text.
_GAIN = 12.0
_PRIOR_LOGIT = -2.0  # about a tenth of an image's tokens are on the referred person


@dataclass(frozen=True)
class FusedTokens:
    """What a fusion makes of the image's tokens.

    Attributes:
        tokens: (B, S, C) updated.
        grounding_logits: (B, S) whether the token is on the referred person; None where the
            fusion has none.
    """

    tokens: Tensor
    grounding_logits: Tensor | None


class NoFusion(nn.Module):
    """The image's tokens as they are: for measuring what a fusion is worth."""

    gives_grounding: ClassVar[bool] = False

    def forward(
        self, visual: Tensor, positions: Tensor, prompt: PromptTokens, sources: PromptSources
    ) -> FusedTokens:
        """Return the tokens; see `PromptFusion.forward`."""
        return FusedTokens(visual, None)


class PromptFusion(nn.Module):
    """`v + attention(query=v, key=prompt + position, value=prompt)`, without a norm.

    Text and spatial prompts have their own weights; the levels share them.

    Args:
        hidden_dim: C.
        num_heads: attention heads.
        position_in_queries: add the image tokens' position encoding to the attention's queries,
            so that they can compare their place with the prompt's; not so in the official release.

    Attributes:
        gives_grounding: whether there are grounding logits.
    """

    gives_grounding: ClassVar[bool] = False

    def __init__(
        self, hidden_dim: int = 256, num_heads: int = 8, position_in_queries: bool = False
    ) -> None:
        super().__init__()
        require_heads(hidden_dim, num_heads)
        self.text_attention = nn.MultiheadAttention(hidden_dim, num_heads, batch_first=True)
        self.spatial_attention = nn.MultiheadAttention(hidden_dim, num_heads, batch_first=True)
        self.position_in_queries = position_in_queries

    def forward(
        self, visual: Tensor, positions: Tensor, prompt: PromptTokens, sources: PromptSources
    ) -> FusedTokens:
        """Update the image's tokens.

        Args:
            visual: (B, S, C) tokens of all levels.
            positions: (B, S, C) their position encoding.
            prompt: the encoded prompts.
            sources: which of them are texts.
        """
        queries = visual + positions if self.position_in_queries else visual
        update = sources.per_source(
            visual.device,
            lambda rows: self._attend(self.text_attention, queries, prompt, rows),
            lambda rows: self._attend(self.spatial_attention, queries, prompt, rows),
        )
        return FusedTokens(visual + update, None)

    def _attend(
        self,
        attention: nn.MultiheadAttention,
        queries: Tensor,
        prompt: PromptTokens,
        rows: Tensor | None,
    ) -> Tensor:
        values = select_rows(prompt.tokens, rows)
        out: Tensor = attention(
            select_rows(queries, rows),
            values + select_rows(prompt.positions, rows),
            values,
            key_padding_mask=select_rows(prompt.padding, rows),
            need_weights=False,
        )[0]
        return out


class ProductFusion(PromptFusion):
    """`v + attention(...) + D(relu(h))` with the product `h` of an image token and the prompt.

    Grounding logits are read from `h`. Text and spatial prompts have a `PromptProduct` each: with
    one for both, texts were learned more slowly beside the other prompts.

    Args:
        hidden_dim: C.
        num_heads: attention heads.
        position_in_queries: as in `PromptFusion`.
    """

    gives_grounding: ClassVar[bool] = True

    def __init__(
        self, hidden_dim: int = 256, num_heads: int = 8, position_in_queries: bool = False
    ) -> None:
        super().__init__(hidden_dim, num_heads, position_in_queries)
        self.text_product = PromptProduct(hidden_dim)
        self.spatial_product = PromptProduct(hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)

    def forward(
        self, visual: Tensor, positions: Tensor, prompt: PromptTokens, sources: PromptSources
    ) -> FusedTokens:
        """Update the image's tokens and say which are on the referred person; see the base."""
        fused = super().forward(visual, positions, prompt, sources)
        placed = visual + positions
        mean = mean_over_tokens(prompt.tokens, prompt.padding)
        product = sources.per_source(
            visual.device,
            lambda rows: self.text_product(select_rows(placed, rows), select_rows(mean, rows)),
            lambda rows: self.spatial_product(select_rows(placed, rows), select_rows(mean, rows)),
        )
        logits = sources.per_source(
            visual.device,
            lambda rows: self.text_product.grounding(select_rows(product, rows)),
            lambda rows: self.spatial_product.grounding(select_rows(product, rows)),
        )
        return FusedTokens(fused.tokens + self.output(F.relu(product)), logits.squeeze(2))

    def ground(
        self, visual: Tensor, positions: Tensor, captions: PromptTokens, images: Tensor
    ) -> Tensor:
        """Grounding logits (N, S) of N captions, each for its image; no token is updated.

        Args:
            visual: (P, S, C) tokens of P images.
            positions: (P, S, C) their position encoding.
            captions: N encoded captions.
            images: (N,) index of every caption's image.
        """
        mean = mean_over_tokens(captions.tokens, captions.padding)
        return self.text_product.ground(visual + positions, mean, images)


class PromptProduct(nn.Module):
    """`h = A(x) * 12 B(p)` of image tokens x and a prompt's vector p, and `C(h)`.

    The product lets one vector choose channels of every image token, as in low-rank bilinear
    pooling (Kim et al., arXiv 1610.04325); `C(h)` are grounding logits, which start as a scaled dot
    product of the prompt with every token and with few tokens on the person.

    Args:
        hidden_dim: C.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.visual_factor = nn.Linear(hidden_dim, hidden_dim)
        self.prompt_factor = nn.Linear(hidden_dim, hidden_dim)
        self.grounding = nn.Linear(hidden_dim, 1)
        nn.init.constant_(self.grounding.weight, hidden_dim**-0.5)
        nn.init.constant_(self.grounding.bias, _PRIOR_LOGIT)

    def forward(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """The products (B, S, C) of tokens (B, S, C) and prompts (B, C)."""
        factor: Tensor = _GAIN * self.prompt_factor(prompt)
        product: Tensor = self.visual_factor(tokens) * factor.unsqueeze(1)
        return product

    def ground(self, tokens: Tensor, prompt: Tensor, images: Tensor) -> Tensor:
        """The logits (N, S) alone, of prompts (N, C) for tokens (P, S, C) of their images (N,).

        No product is kept: every prompt meets every image in one matrix product.
        """
        chosen = _GAIN * self.prompt_factor(prompt) * self.grounding.weight
        logits = torch.einsum("psc,nc->nps", self.visual_factor(tokens), chosen)
        of_image = logits[torch.arange(len(prompt), device=logits.device), images]
        return of_image + self.grounding.bias
