"""Files to be fetched, with and without a network."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from uniphd.errors import ConfigError
from uniphd.models import hub
from uniphd.models.hub import fetching, source_of, unreachable


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not looked for a network yet."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    unreachable.cache_clear()


@pytest.fixture
def silent() -> Iterator[str]:
    """Host and port of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("url", ["https://hub.invalid", "http://127.0.0.1:1", "http://[", ""])
def test_a_host_that_cannot_be_reached(url: str) -> None:
    assert unreachable(url)


def test_a_host_that_is_slow_to_answer_can_be_reached(silent: str) -> None:
    assert unreachable(f"http://{silent}") is None


def test_nobody_waits_long_for_a_connection(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words that open an encrypted connection are lost, as behind many firewalls."""
    monkeypatch.setattr(hub, "_PATIENCE", 0.2)
    start = time.monotonic()
    assert "HF_HUB_ETAG_TIMEOUT=30 waits longer" in str(unreachable(f"https://{silent}"))
    assert time.monotonic() - start < 2


def test_a_proxy_leads_to_the_host(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://{silent}")
    assert unreachable("https://hub.invalid") is None
    unreachable.cache_clear()
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert unreachable("https://hub.invalid")


def test_without_network_caches_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with fetching("It", "Do this.", "https://hub.invalid"):
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    said = r"^It is not in .*, and https://hub.invalid cannot be reached \(.*\). Do this.$"
    with pytest.raises(ConfigError, match=said), fetching("It", "Do this.", "https://hub.invalid"):
        raise FileNotFoundError
    said = r"^It cannot be loaded: wrong \(ValueError\). Do this."
    with pytest.raises(ConfigError, match=said), fetching("It", "Do this.", "https://hub.invalid"):
        raise ValueError("wrong")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = "HF_HUB_OFFLINE is set"
    with pytest.raises(ConfigError, match=said), fetching("It", "Do this.", "https://hub.invalid"):
        raise FileNotFoundError


def test_what_is_not_of_the_hub_is_looked_for_before_it_is_fetched(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    with (
        pytest.raises(
            ConfigError, match=f"It is not in {tmp_path}, and https://hub.invalid cannot"
        ),
        fetching("It", "Do this.", "https://hub.invalid", file),
    ):
        pytest.fail("It would be fetched.")
    file.touch()
    with fetching("It", "Do this.", "https://hub.invalid", file):
        pass


def test_folders_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "roberta").mkdir()
    assert source_of("~/roberta") == (str(tmp_path / "roberta"), None)
    assert source_of("roberta-base") == ("roberta-base", constants.ENDPOINT)
    assert source_of(str(tmp_path / "nowhere")) == (str(tmp_path / "nowhere"), None)
