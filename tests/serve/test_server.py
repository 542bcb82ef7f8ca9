"""What only a connection shows: bodies that are announced, slow or broken off."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.serve.server import RecordingService, serving
from uniphd.inference.predictor import Predictor
from uniphd.serve.limits import Limits

_SECONDS = 30


@pytest.fixture
def service(predictor: Predictor) -> RecordingService:
    return RecordingService(predictor, Limits(upload=2**20, seconds=0.5, requests=2))


@pytest.fixture
def port(service: RecordingService) -> Iterator[int]:
    with serving(service) as address:
        yield urlsplit(address).port


def connect(port: int, length: int, body: bytes = b"") -> socket.socket:
    """Announce an image of so many bytes and send some of them."""
    connection = socket.create_connection(("127.0.0.1", port), _SECONDS)
    head = f"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
    connection.sendall(f"{head}Content-Type: image/png\r\n\r\n".encode() + body)
    return connection


def answer(connection: socket.socket) -> tuple[int, str]:
    """The status and the error of an answer after which the connection is closed or idle."""
    with connection, connection.makefile("rb") as file:
        status = int(file.readline().split()[1])
        headers = dict(line.lower().split(b": ", 1) for line in iter(file.readline, b"\r\n"))
        return status, json.loads(file.read(int(headers[b"content-length"])))["error"]


def test_what_is_announced_too_large_is_refused_before_it_is_sent(port: int) -> None:
    status, error = answer(connect(port, 2**40))
    assert (status, error) == (413, "An image has more than 1.0 MiB; send a smaller one.")


def test_what_does_not_arrive_is_not_waited_for(port: int, service: RecordingService) -> None:
    slow = [connect(port, 1000, b"abc") for _ in range(2)]
    busy = connect(port, 3, b"abc")
    statuses = [answer(connection)[0] for connection in (*slow, busy)]
    assert statuses == [408, 408, 503]
    assert answer(connect(port, 3, b"abc"))[0] == 422  # there is room again
    assert service.contents == [b"abc"]


def test_who_leaves_makes_room(
    port: int, service: RecordingService, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(5):
        connect(port, 1000, b"abc").close()
    status = 503
    for _ in range(100):
        status, _ = answer(connect(port, 3, b"abc"))
        if status != 503:
            break
    assert status == 422
    assert capfd.readouterr().err == ""
