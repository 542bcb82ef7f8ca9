"""Send a model to the Hugging Face Hub."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, constants

from uniphd.checkpoints.address import (
    DEFAULT_REVISION,
    HubAddress,
    is_revision,
    require_repository,
)
from uniphd.checkpoints.hub import explained
from uniphd.checkpoints.pretrained import save_pretrained
from uniphd.errors import CheckpointError
from uniphd.models.hub import offline_reason


def push(
    model: str | os.PathLike[str],
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    **options: Any,
) -> HubAddress:
    """Send what `save_pretrained` writes, in one commit; other files of the repository stay.

    The repository and the branch are created when missing.

    Args:
        model: as for `save_pretrained`.
        repository: "owner/name".
        private: the repository is for its owner alone; a public one is refused.
        revision: branch; None for "main".
        options: of `save_pretrained`: `run`, `metrics`, `license`.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: the hub does not answer or refuses, or the model cannot be read.
    """
    require_repository(repository, f"{repository!r:.200}")
    address = HubAddress(repository, revision or DEFAULT_REVISION)
    if not is_revision(address.revision):
        raise CheckpointError(f"revision is {revision!r:.80}; give the name of a branch.")
    if offline := offline_reason(constants.ENDPOINT):
        raise CheckpointError(f"Nothing can be sent to {address}: {offline}.")
    with TemporaryDirectory() as folder:
        names = save_pretrained(model, folder, repository=repository, **options)
        files = [CommitOperationAdd(name, str(Path(folder, name))) for name in names]
        with explained(f"The commit to {address}", address):
            return _send(address, files, private)


def _send(address: HubAddress, files: list[CommitOperationAdd], private: bool) -> HubAddress:
    api = HfApi(endpoint=constants.ENDPOINT, library_name="uniphd")
    api.create_repo(address.repository, private=private or None, exist_ok=True)
    if private and not api.repo_info(address.repository).private:
        raise CheckpointError(
            f"{address.repository} exists and is public, so nothing was sent; make it private at "
            f"{constants.ENDPOINT}/{address.repository}/settings, or choose another name."
        )
    if address.revision != DEFAULT_REVISION:
        api.create_branch(address.repository, branch=address.revision, exist_ok=True)
    done = api.create_commit(
        address.repository,
        files,
        commit_message="Model of uniphd",
        revision=address.revision,
    )
    return HubAddress(address.repository, done.oid)
