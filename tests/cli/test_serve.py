"""`uniphd-serve` as a process: its address, its sentences, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from uniphd.cli import serve

_SECONDS = 120


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command's process, and the first line that it prints."""
    command = [sys.executable, "-m", "uniphd.cli.serve", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_it_serves_this_machine_until_ctrl_c() -> None:
    with running() as (process, line):
        assert re.fullmatch(r"synthetic_cpu: http://127\.0\.0\.1:\d+ \(Ctrl-C ends it\)\n", line)
        address = line.split()[1]
        with urlopen(f"{address}/health", timeout=_SECONDS) as answer:
            assert json.load(answer) == {"status": "ok"}
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=_SECONDS)
    assert process.returncode == 130
    assert errors.strip() == "uniphd-serve: stopped by Ctrl-C"


@pytest.mark.slow
def test_it_says_when_others_can_reach_it() -> None:
    with running("--host", "0.0.0.0") as (process, line):
        port = line.split()[1].rpartition(":")[2]
        with urlopen(f"http://127.0.0.1:{port}/model", timeout=_SECONDS) as answer:
            assert json.load(answer)["name"] == "synthetic_cpu"
        assert line.split()[1] == f"http://{socket.gethostname()}:{port}"
        own, other = (
            Request(f"http://127.0.0.1:{port}/health", headers={"Host": f"{name}:{port}"})
            for name in (socket.gethostname(), "evil.example")
        )
        with urlopen(own, timeout=_SECONDS) as answer:
            assert answer.status == 200
        with pytest.raises(HTTPError, match="403") as refused:
            urlopen(other, timeout=_SECONDS)
        refused.value.close()
        process.terminate()
        _, errors = process.communicate(timeout=_SECONDS)
    assert f"everybody who reaches this machine at port {port} can use the service" in errors


def outcome(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr("sys.argv", ["uniphd-serve", *arguments])
    with pytest.raises(SystemExit) as caught:
        serve.main()
    return caught.value.code


def test_an_address_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = outcome(monkeypatch, "--port", str(port))
    assert said == (
        f"uniphd-serve: 127.0.0.1 cannot be listened to at port {port} (Address already in use); "
        "give another --host or --port, or --port 0 for any that is free."
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "70000"], "There is no port 70000"),
        (["--host", "192.0.2.1"], "192.0.2.1 cannot be listened to"),
        (["--host", "a..b"], "a..b cannot be listened to"),
        (["--cache", "0"], "The limit of cached is 0; give a number above 0."),
        (["--max-upload", "-1"], "The limit of upload is -1048576"),
        (["none", "--port", "0"], "none"),
        (["--port", "0", "--device", "abacus"], "'abacus' cannot be used"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    said = outcome(monkeypatch, *arguments)
    assert said.startswith("uniphd-serve: ")
    assert sentence in said
    assert "\n" not in said


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert "pip install 'uniphd[serve]'" in outcome(monkeypatch)
