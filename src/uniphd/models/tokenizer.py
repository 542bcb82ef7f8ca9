"""Tokenizers: Hugging Face's for pretrained language models, a hashing one that needs no files."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from uniphd.errors import ConfigError, PromptError
from uniphd.models.hub import fetching, source_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_REMEDY = (
    "In a training give text_encoder.name=DIR, where its files are, or text_encoder=tiny, which "
    "needs none; for a converted checkpoint run uniphd-convert again, with --tokenizer DIR."
)
_MOST_SPECIAL = 8  # ids that a tokenizer may add to those of the characters
_WORD = re.compile(r"\w+|[^\w\s]")


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
"""All that a tokenizer of transformers needs; neither is code."""


class HashTokenizer:
    """Words and punctuation hashed into a fixed number of ids: no vocabulary, no network.

    Ids follow RoBERTa's convention (0 = start, 1 = padding, 2 = end), so a randomly initialised
    RoBERTa reads them. Two words share an id with probability 1 / vocab_size.

    Args:
        vocab_size: number of ids, the first three of which are special.
        max_length: longer texts are cut to this many tokens.

    Raises:
        ConfigError: there is no room for a word beside the special ids.
    """

    def __init__(self, vocab_size: int = 4096, max_length: int = 64) -> None:
        if vocab_size < 4 or max_length < 3:
            raise ConfigError(
                f"tokenizer.vocab_size is {vocab_size} and tokenizer.max_length {max_length}; give "
                "at least 4 and 3."
            )
        self.vocab_size = vocab_size
        self.max_length = max_length

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return (input ids, attention mask), both (N, T) int64."""
        rows = [self._encode(text) for text in texts]
        length = max(len(row) for row in rows)
        input_ids = torch.tensor([row + [1] * (length - len(row)) for row in rows])
        attention_mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        return input_ids, attention_mask

    def read_part(self, text: str) -> str:
        """The beginning of a text that is read; all of it where it is not cut."""
        ends = [word.end() for word in _WORD.finditer(text.lower())]
        most = self.max_length - 2
        return text[: ends[most - 1]] if len(ends) > most else text

    def files(self) -> dict[str, bytes]:
        """None: an id follows from the word."""
        return {}

    def _encode(self, text: str) -> list[int]:
        words = _WORD.findall(text.lower())[: self.max_length - 2]
        buckets = self.vocab_size - 3
        return [0, *(3 + zlib.crc32(word.encode()) % buckets for word in words), 2]


class HuggingFaceTokenizer:
    """`transformers.AutoTokenizer` with longest padding.

    Args:
        name: model name on the hub or a local folder.
        max_length: longer texts are cut to this many tokens, or to the fewer that the tokenizer
            says its language model reads.

    Raises:
        ConfigError: its files cannot be loaded, when the first text asks for them.
    """

    def __init__(self, name: str = "roberta-base", max_length: int = 128) -> None:
        self.name = name
        self.max_length = max_length

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return (input ids, attention mask), both (N, T) int64.

        Raises:
            PromptError: a text has not a single token.
        """
        encoded = self._tokenizer(
            list(texts),
            padding="longest",
            truncation=True,
            max_length=min(self.max_length, self._tokenizer.model_max_length),
            return_tensors="pt",
        )
        for text, count in zip(texts, encoded["attention_mask"].sum(1).tolist(), strict=True):
            if count == 0:
                raise PromptError(f"The tokenizer '{self.name}' finds no token in {text!r:.80}.")
        return encoded["input_ids"], encoded["attention_mask"]

    def read_part(self, text: str) -> str:
        """The beginning of a text that is read; all of it where it is not cut."""
        most = min(self.max_length, self._tokenizer.model_max_length)
        if len(text.encode()) + _MOST_SPECIAL <= most or not self._tokenizer.is_fast:
            return text
        if len(self._tokenizer(text, verbose=False)["input_ids"]) <= most:
            return text
        read = self._tokenizer(
            text, truncation=True, max_length=most, return_offsets_mapping=True, verbose=False
        )
        return text[: max((end for _, end in read["offset_mapping"]), default=0)]

    def files(self) -> dict[str, bytes]:
        """The content of `TOKENIZER_FILES`, by name.

        Raises:
            ConfigError: the tokenizer needs other files than these.
        """
        with TemporaryDirectory() as folder:
            self._tokenizer.save_pretrained(folder)
            paths = [Path(folder, name) for name in TOKENIZER_FILES]
            if all(path.is_file() for path in paths):
                return {path.name: path.read_bytes() for path in paths}
        raise ConfigError(
            f"The tokenizer '{self.name}' is not one of transformers' fast ones and has no "
            f"{TOKENIZER_FILES[0]}, so that it cannot be stored beside a network."
        )

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return max(self._tokenizer.get_vocab().values()) + 1

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        """Loaded on first use, so that spatial prompts need no tokenizer files."""
        from transformers import AutoTokenizer

        source, url = source_of(self.name)
        with fetching(f"The tokenizer '{self.name}'", _REMEDY, url):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                source, trust_remote_code=False, padding_side="right"
            )
            if tokenizer.pad_token is None:  # nobody looks at padding
                tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
            tokenizer(
                ["a", "a person"], padding="longest", truncation=True, max_length=self.max_length
            )
        return tokenizer
