"""The service behind uvicorn, as `uniphd-serve` has it, in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from uniphd.serve.app import create_app
from uniphd.serve.requests import PredictRequest
from uniphd.serve.service import Service


class RecordingService(Service):
    """Remembers what was asked."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.contents: list[bytes] = []

    def add_image(self, content: bytes) -> dict[str, Any]:
        self.contents.append(content)
        return super().add_image(content)

    def predict(self, request: PredictRequest) -> dict[str, Any]:
        answer = super().predict(request)
        self.asked += request.prompts
        self.answers.append(answer)
        return answer


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """The service at an address of this machine, in a thread."""
    app = create_app(service, "synthetic_cpu", "A note about the network.")
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
