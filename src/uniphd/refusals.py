"""Whatever a library refuses, and however a command ends: one sentence, not a traceback.

`HYDRA_FULL_ERROR=1` in the environment shows the traceback instead, in every command.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

from uniphd.errors import ConfigError, StorageError, UniPHDError, printable

_FLAG = "HYDRA_FULL_ERROR"
_NOT_THE_USERS = "UNIPHD_HIDES_TRACEBACKS"  # beside _FLAG where we set that; processes inherit both
HINT = f"{_FLAG}=1 shows the traceback."
_LONGEST = 300  # characters of a library's sentence; some list all that they know
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the operating system says of a full disk, quota or file system."""


def tracebacks_wanted() -> bool:
    """Whether the user has set `HYDRA_FULL_ERROR=1`."""
    return os.environ.get(_FLAG) == "1" and _NOT_THE_USERS not in os.environ


@contextmanager
def exceptions_from_hydra() -> Iterator[None]:
    """Let Hydra raise its exceptions, which otherwise it prints before it exits."""
    if tracebacks_wanted():
        yield
        return
    os.environ.update({_FLAG: "1", _NOT_THE_USERS: "1"})
    try:
        yield
    finally:
        for name in (_FLAG, _NOT_THE_USERS):
            os.environ.pop(name, None)


@contextmanager
def refused(what: str, advice: str = "") -> Iterator[None]:
    """Turn every exception into one sentence, where a user's choices meet a library.

    Errors of ours pass as they are. A mistake of our own code ends in such a sentence, too; its
    class is in it, and the traceback is behind it.

    Args:
        what: beginning of the sentence, such as "The network cannot be built".
        advice: a sentence, what to do.

    Raises:
        ConfigError: instead of the exception.
    """
    try:
        yield
    except UniPHDError:
        raise
    except Exception as error:
        raise refusal(what, error, advice) from error


def refusal(what: str, error: BaseException, advice: str = "") -> ConfigError:
    """The error with `what`, the reason that an exception gives, and how to see all of it."""
    sentences = [f"{what}: {reason(error)}.", advice, HINT]
    return ConfigError(" ".join(sentence for sentence in sentences if sentence))


def reason(error: BaseException) -> str:
    """What an exception says in its first sentence, without a full stop, and its class."""
    name = type(error).__name__
    lines = [line.strip() for line in message(error).splitlines() if line.strip()]
    end = next((i for i, line in enumerate(lines, 1) if not line.endswith(":")), len(lines))
    said = shorten(" ".join(lines[:end]), _LONGEST, placeholder=" ...").rstrip(".:")
    return f"{said} ({name})" if said else name


def message(error: BaseException) -> str:
    """What an exception says; of one in a loading process, without the traceback around it."""
    text = "\n".join(map(str, error.args)) if isinstance(error, UniPHDError) else str(error)
    _, in_worker, traceback = text.partition("Original Traceback (most recent call last):\n")
    return traceback.rpartition(f"{type(error).__name__}: ")[2].strip() if in_worker else text


@contextmanager
def exit_on_user_error(command: str, folder: str | None = None) -> Iterator[None]:
    """End the program with one sentence where the user can mend the cause, and with exit code 1.

    Args:
        command: the program's name.
        folder: where it writes.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (UniPHDError, OSError) as error:
        if tracebacks_wanted():
            raise
        said = error if isinstance(error, UniPHDError) else storage_error(error, folder)
        sys.exit(f"{command}: {said}")


def storage_error(
    error: OSError, folder: str | None = None, advice: str = "Choose one that can be used."
) -> StorageError:
    """What the operating system says of a file, and what to do.

    Args:
        error: may lack the file's name, as one of writing does.
        folder: where the file may be, then.
        advice: a sentence for whom the file or its folder is the wrong one.
    """
    if error.errno in FULL_DISK:
        what, advice = "cannot be written", "Free space, or choose another disk."
    else:
        what = "cannot be used"
    said = f"{error.strerror} ({type(error).__name__})" if error.strerror else reason(error)
    file = error.filename or (f"A file in {folder}" if folder else "A file")
    return StorageError(f"{file} {what}: {said}. {advice} {HINT}")


def escape_log_records() -> None:
    """Let what we log keep to its line and hold no codes that a terminal would obey."""
    if logging.getLogRecordFactory() is not _record:
        logging.setLogRecordFactory(_record)


class _OneLine(logging.LogRecord):
    """A record of ours, in which names may be anybody's."""

    def getMessage(self) -> str:  # noqa: N802 - its name
        return printable(super().getMessage())


def _record(name: str, *arguments: Any, **options: Any) -> logging.LogRecord:
    ours = name.partition(".")[0] == "uniphd"
    return (_OneLine if ours else logging.LogRecord)(name, *arguments, **options)
