"""Texts on their way to the network: nothing is read wrongly or in part without a word."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from torch import Tensor

from uniphd.prompts import Tokenize, read_part

_logger = logging.getLogger(__name__)
_MOST_REMEMBERED = 1_000  # texts that are not warned of again


class CarefulTokenizer:
    """A tokenizer that is checked when the first text comes, and warns of texts that it cuts.

    At the first text and not before, because spatial prompts need no tokenizer, whose files may be
    missing. One thread at a time may call it.

    Args:
        tokenize: texts to ids.
        check: called before the first text; raises where the network cannot read the ids.
    """

    def __init__(self, tokenize: Tokenize, check: Callable[[], None]) -> None:
        self._tokenize = tokenize
        self._check = check
        self._checked = False
        self._warned: set[str] = set()

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return (input ids, attention mask), both (N, T) int64."""
        if not self._checked:
            self._check()
            self._checked = True
        for text in texts:
            if len(part := read_part(self._tokenize, text)) < len(text):
                self._warn(text, part)
        return self._tokenize(texts)

    def _warn(self, text: str, part: str) -> None:
        if text in self._warned:
            return
        if len(self._warned) >= _MOST_REMEMBERED:
            self._warned.clear()
        self._warned.add(text)
        _logger.warning(
            "Of a text of %d words, %d are read, which are as many as the tokenizer takes; "
            "describe the person in fewer: %.60r",
            *(len(text.split()), words_read(text, part), text),
        )


def words_read(text: str, part: str) -> int:
    """How many words of a text are read to their end.

    Args:
        text: the whole.
        part: the beginning that is read.
    """
    count = len(part.split())
    cut_within = bool(part) and not part[-1].isspace() and not f"{text} "[len(part)].isspace()
    return count - cut_within
