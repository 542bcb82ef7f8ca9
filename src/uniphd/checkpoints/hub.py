"""Models from the Hugging Face Hub: the files that a model needs, each checked before it comes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from uniphd.checkpoints.address import HubAddress
from uniphd.checkpoints.folder import CONFIG_FILE, TOKENIZER_FOLDER, WEIGHTS_FILE
from uniphd.checkpoints.plain import LARGEST_JSON, read_json
from uniphd.errors import CheckpointError, UniPHDError
from uniphd.models.hub import offline_reason
from uniphd.models.tokenizer import TOKENIZER_FILES
from uniphd.refusals import HINT, reason

_logger = logging.getLogger(__name__)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_BYTES = {CONFIG_FILE: LARGEST_JSON, WEIGHTS_FILE: 16 << 30}
_MOST_TOKENIZER_BYTES = 64 << 20
_BUSY, _BROKEN = 429, 500  # status of HTTP, from the latter on
LOG_IN = "`hf auth login`, or HF_TOKEN in the environment"


def fetch_model(address: HubAddress) -> Path:
    """The folder, in the hub's cache, with the files of a model; what is missing is fetched.

    These are `config.json`, `model.safetensors`, and where the model has a tokenizer with files
    (`./tokenizer`) those; nothing else of the repository is. All are of one commit.

    Raises:
        CheckpointError: the repository, its revision or a file is missing or may not be read, a
            file is too large, or the hub does not answer and the cache lacks a file.
    """
    config = _fetch(address, CONFIG_FILE)
    folder = config.parent
    # A branch may move on meanwhile; a copy in the cache is named by its commit, too.
    pinned = HubAddress(address.repository, folder.name)
    if _has_tokenizer(config):
        for name in TOKENIZER_FILES:
            _fetch(pinned, f"{TOKENIZER_FOLDER}/{name}")
    _fetch(pinned, WEIGHTS_FILE)
    return folder


def _has_tokenizer(config: Path) -> bool:
    """Whether a configuration names the tokenizer beside it; what it may name is checked later."""
    try:
        content = read_json(config)
        name = content["tokenizer"].get("name")
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return False  # reading the folder will say what is wrong
    return bool(name == f"./{TOKENIZER_FOLDER}")


def _fetch(address: HubAddress, name: str) -> Path:
    """One file, from the cache where its content is known to be that of the address."""
    cached = try_to_load_from_cache(address.repository, name, revision=address.revision)
    if isinstance(cached, str) and _COMMIT.fullmatch(address.revision):
        return Path(cached)
    if offline := offline_reason(constants.ENDPOINT):
        return _from_cache(cached, address, name, offline)
    with explained(f"{name} of {address}", address):
        try:
            metadata = get_hf_file_metadata(
                hf_hub_url(address.repository, name, revision=address.revision),
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
            )
        except (HfHubHTTPError, EntryNotFoundError):
            raise
        except Exception as error:  # no answer; which library says so depends on the version
            if not isinstance(cached, str):
                raise
            return _from_cache(cached, address, name, reason(error))
        _require_size(metadata.size, address, name)
        return Path(hf_hub_download(address.repository, name, revision=address.revision))


def _from_cache(cached: Any, address: HubAddress, name: str, why: str) -> Path:
    if not isinstance(cached, str):
        raise CheckpointError(
            f"{name} of {address} is not in {constants.HF_HUB_CACHE}, and {why}; load the model "
            "once where there is a network, or copy that folder from there."
        )
    if not constants.HF_HUB_OFFLINE:
        _logger.warning("%s is the copy in %s: %s.", address, constants.HF_HUB_CACHE, why)
    return Path(cached)


def _require_size(size: int | None, address: HubAddress, name: str) -> None:
    most = _MOST_BYTES.get(name, _MOST_TOKENIZER_BYTES)
    if size is None or size > most:
        found = "of unknown size" if size is None else f"{size:,} bytes large"
        raise CheckpointError(
            f"{name} of {address} is {found}, and more than {most:,} bytes are not fetched."
        )


@contextmanager
def explained(what: str, address: HubAddress) -> Iterator[None]:
    """Say in one sentence what the hub, or the way there, refuses.

    Args:
        what: is fetched or sent.
        address: where.

    Raises:
        CheckpointError: instead of whatever huggingface_hub raises.
    """
    try:
        yield
    except UniPHDError:
        raise
    except GatedRepoError as error:
        raise CheckpointError(
            f"{address.repository} is open to whom its owner has admitted; ask for access at "
            f"{constants.ENDPOINT}/{address.repository}, then log in ({LOG_IN})."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{constants.ENDPOINT} has no repository {address.repository} that you may use; check "
            f"the name or, if it is private, log in ({LOG_IN})."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"{address.repository} has no branch, tag or commit '{address.revision}'."
        ) from error
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):  # the hub did not answer
            raise _unavailable(what, error) from error
        raise CheckpointError(
            f"There is no {what}; a model that `uniphd-hub push` sends has {CONFIG_FILE} and "
            f"{WEIGHTS_FILE}."
        ) from error
    except Exception as error:  # of huggingface_hub, and of what it uses
        raise _unavailable(what, error) from error


def _unavailable(what: str, error: Exception) -> CheckpointError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return CheckpointError(
            f"{constants.ENDPOINT} refuses {what} (status {status}); log in with a token that may "
            f"do this ({LOG_IN})."
        )
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    cause = cause or error
    why, advice = f"status {status}" if status else reason(cause), ""
    if status == _BUSY or (status or 0) >= _BROKEN:
        advice = "Try again later. "
    if "Timeout" in type(cause).__name__:
        advice = "HF_HUB_ETAG_TIMEOUT=60 and HF_HUB_DOWNLOAD_TIMEOUT=60 wait longer. "
    return CheckpointError(f"{what} does not come through: {why}. {advice}{HINT}")
