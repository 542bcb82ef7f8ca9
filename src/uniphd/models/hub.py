"""Files that timm and transformers fetch: from the network where there is one, or from a cache."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from uniphd.errors import ConfigError
from uniphd.refusals import refusal

_PATIENCE = 4  # seconds; HF_HUB_ETAG_TIMEOUT says otherwise


@contextmanager
def fetching(what: str, remedy: str, url: str | None, file: Path | None = None) -> Iterator[None]:
    """Load what may have to be fetched, and say in one sentence why it cannot be.

    Where no connection can be made, the libraries would try for minutes, file by file. They are
    told to look into their caches alone.

    Args:
        what: is loaded, for the sentence.
        remedy: what to do where it cannot be, as a sentence.
        url: where it is fetched from; None for local files.
        file: where it is kept, for what does not come from the hub.

    Raises:
        ConfigError: it cannot be loaded, for whatever reason.
    """
    offline = offline_reason(url) if url else None
    chosen = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = chosen or offline is not None
    try:
        if offline and file is not None and not file.exists():
            raise FileNotFoundError(file)
        yield
    except ConfigError:
        raise
    except Exception as error:  # each library has its own, and its own for every case
        if offline and isinstance(error, OSError):
            place = file.parent if file else constants.HF_HUB_CACHE
            raise ConfigError(f"{what} is not in {place}, and {offline}. {remedy}") from error
        raise refusal(f"{what} cannot be loaded", error, remedy) from error
    finally:
        constants.HF_HUB_OFFLINE = chosen


def source_of(name: str) -> tuple[str, str | None]:
    """What a name of transformers means: a local folder, and None, or a name on the hub, and where.

    Args:
        name: of a folder, which goes before a name on the hub; `~` is somebody's home.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder), None
    try:
        validate_repo_id(name)
    except HFValidationError:  # it is the name of a folder that is missing
        return name, None
    return name, constants.ENDPOINT


def offline_reason(url: str) -> str | None:
    """Why nothing can be fetched from a URL; None where it can."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    reason = unreachable(url)
    return f"{url} cannot be reached ({reason})" if reason else None


@lru_cache
def unreachable(url: str) -> str | None:
    """Why no connection can be made to the host of a URL; None where one can, slow as it may be."""
    patience = constants.HF_HUB_ETAG_TIMEOUT
    if patience == constants.DEFAULT_ETAG_TIMEOUT:
        patience = _PATIENCE
    answers: SimpleQueue[str | None] = SimpleQueue()
    # A look-up of a name, and a host with many addresses, know no time limit.
    Thread(target=lambda: answers.put(_connect(url, patience)), daemon=True).start()
    try:
        return answers.get(timeout=patience)
    except Empty:
        return f"no connection within {patience} s; HF_HUB_ETAG_TIMEOUT=30 waits longer"


def _connect(url: str, patience: float) -> str | None:
    """Connect to the host of a URL, or to the proxy that leads there; say why it is impossible."""
    try:
        target = urlsplit(url)
        host, scheme = target.hostname or "", target.scheme
        proxy = None if proxy_bypass(host) else getproxies().get(scheme)
        if proxy is not None:
            target = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        port = target.port or (443 if target.scheme == "https" else 80)
        with socket.create_connection((target.hostname or "", port), patience) as connection:
            if scheme == "https" and proxy is None:
                ssl.create_default_context().wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError:
        return None  # there is a host; whom to trust, the libraries decide
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return None
