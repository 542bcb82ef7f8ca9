"""Text encoder: any Hugging Face `AutoModel`, pretrained or from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from uniphd.errors import ConfigError
from uniphd.models.layers import mean_over_tokens


class TextEncoder(nn.Module):
    """A language model that gives a vector per token and one for the whole text.

    Args:
        name: model name on the hub or a local folder; its weights are loaded.
        config: instead of `name`, the Hugging Face configuration as a mapping with `model_type`;
            the weights start random (to be trained, or to be filled from a checkpoint).
        trainable: whether the language model gets gradients.
        sentence: the vector of the whole text: "pooler", the model's pooler output (the mean for
            models without one), or "mean", the mean over tokens. A pooler from scratch says little
            about the words at first, and a network learns slowly to tell texts apart by it.

    Raises:
        ConfigError: both or neither of `name` and `config` are given, or it cannot be loaded.
    """

    def __init__(
        self,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        trainable: bool = True,
        sentence: Literal["pooler", "mean"] = "pooler",
    ) -> None:
        super().__init__()
        if sentence not in ("pooler", "mean"):
            raise ConfigError(f"text_encoder.sentence is {sentence!r}; use 'pooler' or 'mean'.")
        if (name is None) == (config is None):
            raise ConfigError(
                "A text encoder needs either `name` (pretrained weights) or `config` (random "
                f"weights); got name={name!r} and config={config!r}."
            )
        self.body = _pretrained(name) if name is not None else _random(dict(config or {}))
        if sentence == "mean" and hasattr(self.body, "pooler"):
            self.body.pooler = None  # type: ignore[assignment]
        self.hidden_size = int(self.body.config.hidden_size)  # type: ignore[union-attr,arg-type]
        self.requires_grad_(trainable)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode N texts of T tokens.

        Args:
            input_ids: (N, T) int64.
            attention_mask: (N, T) int64, 1 on tokens.

        Returns:
            The last hidden state (N, T, D) and the texts' vectors (N, D).
        """
        output = self.body(input_ids=input_ids, attention_mask=attention_mask)
        hidden: Tensor = output.last_hidden_state
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            pooled = mean_over_tokens(hidden, attention_mask == 0)
        return hidden, pooled

    def portable_arguments(self) -> dict[str, Any]:
        """Arguments with which the same language model is built without its files."""
        return {"name": None, "config": self.body.config.to_diff_dict()}  # type: ignore[union-attr,operator]


def _pretrained(name: str) -> nn.Module:
    try:
        model: nn.Module = AutoModel.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"The language model '{name}' cannot be loaded ({reason}). Give the path of a local "
            "folder with its files, or choose text_encoder=tiny, which needs none."
        ) from error
    return model


def _random(config: dict[str, Any]) -> nn.Module:
    model_type = config.pop("model_type", None)
    if model_type is None:
        raise ConfigError("text_encoder.config lacks `model_type`, for example 'roberta'.")
    described = AutoConfig.for_model(model_type, **config)
    model: nn.Module = AutoModel.from_config(described, trust_remote_code=False)
    return model
