"""Addresses of models on the Hugging Face Hub: `hf://owner/name@revision`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePath

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from uniphd.errors import CheckpointError

DEFAULT_REVISION = "main"
_SCHEME = "hf://"
_ANY_SCHEME = re.compile(r"[\w+.-]+:/")  # a Path has made one slash of two
_REVISION = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*")
_FORM = "hf://owner/name or hf://owner/name@revision"


@dataclass(frozen=True)
class HubAddress:
    """A repository on the hub, and which of its states.

    Attributes:
        repository: "owner/name".
        revision: a branch, a tag or a commit.
    """

    repository: str
    revision: str = DEFAULT_REVISION

    def __str__(self) -> str:
        return f"{_SCHEME}{self.repository}@{self.revision}"


def parse_address(model: str | os.PathLike[str]) -> HubAddress | None:
    """The address in what a user gave for a model; None where it is a path.

    Raises:
        CheckpointError: it is an address of another kind, or a malformed one.
    """
    text = os.fspath(model)
    scheme = _ANY_SCHEME.match(text)
    if scheme is None or PurePath(text).drive:
        return None
    if scheme[0] != "hf:/":
        raise CheckpointError(
            f"{text!r:.200} is an address that is not read; give a folder, a file or {_FORM}."
        )
    repository, at, revision = text[len(scheme[0]) :].removeprefix("/").partition("@")
    require_repository(repository, f"{text!r:.200}")
    if at and not is_revision(revision):
        raise CheckpointError(
            f"{text!r:.200} has no branch, tag or commit after its @; give {_FORM}."
        )
    return HubAddress(repository, revision or DEFAULT_REVISION)


def require_repository(name: str, where: str) -> None:
    """Refuse what is not the name of a repository with its owner.

    Args:
        name: such as "owner/name".
        where: what the user gave, for the message.

    Raises:
        CheckpointError: it cannot be one.
    """
    try:
        validate_repo_id(name)
        whole = name.count("/") == 1
    except HFValidationError:
        whole = False
    if not whole:
        raise CheckpointError(f"{where} does not name an owner and a repository; give {_FORM}.")


def is_revision(text: str) -> bool:
    """Whether a branch, tag or commit may have this name."""
    return _REVISION.fullmatch(text) is not None
