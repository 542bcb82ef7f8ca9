"""What is wrong with a data set, collected first and then raised at once or skipped and counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from uniphd.errors import ConfigError, UniPHDError

OnError: TypeAlias = Literal["raise", "skip"]

_SHOWN = 10

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in one sentence.

    Attributes:
        kind: a short name to count by, such as "empty mask".
        message: the sentence; it names the file, the ids, the field and what to do.
        image_ids: the image ids that it is about.
        is_warning: whether it may be right, and they are used as they stand.
    """

    kind: str
    message: str
    image_ids: tuple[int, ...] = ()
    is_warning: bool = False

    def __str__(self) -> str:
        return self.message


def raise_or_log(
    problems: Sequence[Problem], on_error: OnError, error: type[UniPHDError], where: str
) -> None:
    """Raise one `error` that lists the problems, or log how many of each kind are skipped.

    Warnings are logged either way: how many of each kind, and the first.

    Args:
        problems: what was found; with none, nothing happens.
        on_error: "raise" or "skip".
        error: the class to raise.
        where: the file or folder that was looked at.

    Raises:
        UniPHDError: of class `error`, with the first ten problems and their total number.
        ConfigError: `on_error` is neither of the two words.
    """
    if on_error not in get_args(OnError):
        raise ConfigError(f"on_error is {on_error!r}; set it to 'raise' or 'skip'.")
    doubtful = [problem for problem in problems if problem.is_warning]
    if doubtful:
        _logger.warning(
            "%s: used as it stands: %s. The first: %s", where, _counts(doubtful), doubtful[0]
        )
    wrong = [problem for problem in problems if not problem.is_warning]
    if not wrong:
        return
    if on_error == "raise":
        raise error(*_listing(wrong, where))
    _logger.warning("%s: skipped what has a problem: %s", where, _counts(wrong))


def unusable_ids(problems: Iterable[Problem]) -> set[int]:
    """The image ids that cannot be used."""
    return {i for problem in problems if not problem.is_warning for i in problem.image_ids}


def _counts(problems: Iterable[Problem]) -> str:
    counts = Counter(problem.kind for problem in problems)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())


def _listing(problems: Sequence[Problem], where: str) -> list[str]:
    shown = [f"  {problem}" for problem in problems[:_SHOWN]]
    rest = len(problems) - len(shown)
    total = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    head = f"{where} has {total}; correct it or leave these people out with data.on_error=skip:"
    tail = [f"  ... and {rest} more."] if rest else []
    return [head, *shown, *tail]
