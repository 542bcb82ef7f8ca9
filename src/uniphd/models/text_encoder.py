"""Text encoder: any Hugging Face `AutoModel` of texts, pretrained or from a configuration.

Of models that write, too (T5, BART), the encoder is used; of models of texts and images (CLIP) the
part about texts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from uniphd.errors import ConfigError
from uniphd.models.hub import fetching, source_of
from uniphd.models.layers import mean_over_tokens
from uniphd.prompts import Tokenize
from uniphd.refusals import reason, refusal

_logger = logging.getLogger(__name__)
_REMEDY = (
    "Give text_encoder.name=DIR, a local folder with its files, or choose text_encoder=tiny, which "
    "needs none."
)
_SHORT = "the woman on the left"
_LONG = "the man with a hat " * 1_000
_FAMILIAR = 0.9  # of a model's tokens a tokenizer has at least; models have room for more


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
        self.sentence = sentence
        self.config, self.body = _pretrained(name) if name is not None else _random(config or {})
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
        if pooled is None or self.sentence == "mean":
            pooled = mean_over_tokens(hidden, attention_mask == 0)
        return hidden, pooled

    def portable_arguments(self) -> dict[str, Any]:
        """Arguments with which the same language model is built without its files."""
        return {"name": None, "config": self.config.to_diff_dict()}


def check_texts(encoder: TextEncoder, tokenize: Tokenize) -> None:
    """Try a tokenizer and a language model together, before a training relies on them.

    Args:
        encoder: on any device.
        tokenize: texts to ids.

    Raises:
        ConfigError: the model cannot read what the tokenizer writes, or a text's vectors depend on
            what stands beside it in a batch, or its vector is that of any text.
    """
    device = next(encoder.parameters()).device
    ids, mask = (part.to(device) for part in tokenize([_SHORT, _LONG]))
    _check_vocabulary(encoder, tokenize, int(ids.max()))
    words = int(mask[0].sum())
    training = encoder.training
    try:
        with torch.no_grad():
            hidden, sentences = encoder.eval()(ids, mask)
            hidden_alone, sentence_alone = encoder(ids[:1, :words], mask[:1, :words])
    except Exception as error:  # transformers' models refuse in many ways
        positions = getattr(encoder.config, "max_position_embeddings", "unknown")
        raise ConfigError(
            f"The language model cannot read texts of {ids.shape[1]} tokens ({reason(error)}; "
            f"its max_position_embeddings: {positions}); give a smaller tokenizer.max_length, or "
            "another text_encoder."
        ) from error
    finally:
        encoder.train(training)
    if hidden.shape != (*ids.shape, encoder.hidden_size):
        raise ConfigError(
            f"The language model gives vectors of shape {tuple(hidden.shape)} for tokens of shape "
            f"{tuple(ids.shape)} and a hidden_size of {encoder.hidden_size}; choose another "
            "text_encoder."
        )
    if _differ(hidden[0, :words], hidden_alone[0]):
        raise ConfigError(
            "The language model gives a text other vectors when it is padded beside a longer one; "
            "choose another text_encoder."
        )
    if _differ(sentences[0], sentence_alone[0]) or not _differ(sentences[0], sentences[1], 1e-6):
        raise ConfigError(
            "The language model's own vector of a text is not one of the text (it depends on "
            "padding, or on a token that the tokenizer does not write); give "
            "text_encoder.sentence=mean."
        )


def _check_vocabulary(encoder: TextEncoder, tokenize: Tokenize, highest: int) -> None:
    """Compare what a tokenizer writes with what a language model knows."""
    known = getattr(encoder.config, "vocab_size", None)
    if known is None:
        return
    written = max(highest + 1, getattr(tokenize, "vocab_size", 0))
    if written > known:
        raise ConfigError(
            f"The tokenizer writes ids up to {written - 1}, but the language model's vocab_size is "
            f"{known}; give the tokenizer of the same model."
        )
    if written < known * _FAMILIAR:
        _logger.warning(
            "The tokenizer has %d tokens and the language model %d; are they of one model?",
            *(written, known),
        )


def _differ(a: Tensor, b: Tensor, tolerance: float = 0.01) -> bool:
    """Whether vectors differ by more than rounding does."""
    return bool((a - b).abs().max() > tolerance * a.abs().max())


def _pretrained(name: str) -> tuple[PreTrainedConfig, nn.Module]:
    """The language model of a name, and its configuration."""
    source, url = source_of(name)
    with fetching(f"The language model '{name}'", _REMEDY, url):
        config = _of_texts(AutoConfig.from_pretrained(source, trust_remote_code=False))
        whole, report = _model_class(config).from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
        )
    body = _reader(config, whole)
    of_body = {id(parameter) for parameter in body.parameters()}
    missing = [
        key
        for key, parameter in whole.named_parameters()
        if key in report["missing_keys"] and id(parameter) in of_body and "pooler" not in key
    ]
    if missing:
        raise ConfigError(
            f"'{name}' has no weights for {len(missing)} parameters of its language model, such as "
            f"{missing[0]}; give a folder with all its files. {_REMEDY}"
        )
    return config, body


def _random(described: Mapping[str, Any]) -> tuple[PreTrainedConfig, nn.Module]:
    """A language model with random weights, and its configuration."""
    arguments = dict(described)
    model_type = arguments.pop("model_type", None)
    if model_type is None:
        raise ConfigError("text_encoder.config lacks `model_type`, for example 'roberta'.")
    try:
        config = _of_texts(AutoConfig.for_model(model_type, **arguments))
        model_class = _model_class(config)
        if model_class is not AutoModel:
            return config, _reader(config, model_class(config))
        whole = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
        return config, _reader(config, whole)
    except Exception as error:  # transformers refuses in many ways
        raise refusal(
            "transformers cannot build the model of text_encoder.config", error
        ) from error


def _of_texts(config: PreTrainedConfig) -> PreTrainedConfig:
    """The part about texts, of models of texts and images."""
    return getattr(config, "text_config", None) or config


def _model_class(config: PreTrainedConfig) -> Any:
    """`AutoModel`, or the class of what it does not know, such as the texts' part of SigLIP."""
    if type(config) in MODEL_MAPPING:
        return AutoModel
    name = type(config).__name__.removesuffix("Config") + "Model"
    return getattr(transformers, name, AutoModel)


def _reader(config: PreTrainedConfig, whole: PreTrainedModel) -> nn.Module:
    """The part that reads, of models that read and write."""
    return whole.get_encoder() if config.is_encoder_decoder else whole
